//! The page's verifier and the program's say the same about every published file and every flipped bit of one.

use domicile_core::{
    bundle::{Bundle, Opening},
    note::VerifierKey,
    verify::{Report, StepId, Verdict, verify_bundle},
};
use serde_json::{Value, json};

use crate::{browser::with_browser, page_on_disk, vector};

/// In the page: reads what the arguments give and verifies it.
const VERIFY: &str = "
    const keys = await Promise.all(args.keys.map(readKey));
    const verify = async (bundle, opening) => {
      const { verdict, steps } = await verifyBundle(readBundle(bundle), opening && readOpening(opening), keys);
      return { verdict, steps: steps.map(({ id, title, status, detail }) => ({ id, title, status, detail })) };
    };";

fn key_lines() -> Vec<String> {
    vector("verify/keys.txt").lines().map(str::to_owned).collect()
}

fn pinned() -> Vec<VerifierKey> {
    key_lines().iter().map(|line| VerifierKey::parse(line).unwrap()).collect()
}

/// The program's report of one published case.
fn report(case: &Value) -> Report {
    let bundle: Bundle = serde_json::from_value(case["bundle"].clone()).unwrap();
    let opening: Option<Opening> = serde_json::from_value(case["opening"].clone()).unwrap();
    verify_bundle(&bundle, opening.as_ref(), &pinned())
}

#[tokio::test]
async fn every_published_case_gives_the_programs_report() {
    with_browser(|browser| async move {
        browser.open(&page_on_disk()).await;
        let published: Value = serde_json::from_str(&vector("verify/cases.json")).unwrap();
        let cases = published["cases"].as_array().unwrap();
        let body = format!(
            "{VERIFY}
             const reports = [];
             for (const {{ bundle, opening }} of args.cases) {{
               const [left, right] = [bundle, opening].map((json) => json && parseJson(JSON.stringify(json)));
               reports.push(await verify(left, right));
             }}
             return reports;"
        );
        let reports = browser.run(&body, json!({ "keys": key_lines(), "cases": cases })).await;
        assert!(cases.len() > 50);
        for (case, theirs) in cases.iter().zip(reports.as_array().unwrap()) {
            let ours = report(case);
            assert_eq!(theirs, &json!(ours), "{}", case["name"]);
            assert_eq!(theirs["verdict"], case["verdict"], "{}", case["name"]);
            assert_eq!(json!(ours.failed_step()), case["failed_step"], "{}", case["name"]);
        }
        assert_eq!(browser.complaints().await, Vec::<String>::new());
    })
    .await;
}

/// How the program sees a bundle with one bit flipped: `-` unread, else where it fails, or `passed`.
fn fate(bytes: &[u8], opening: &Opening) -> &'static str {
    let Ok(bundle) = Bundle::parse(bytes) else { return "-" };
    let report = verify_bundle(&bundle, Some(opening), &pinned());
    assert_ne!(report.verdict, Verdict::NotRevealed);
    report.failed_step().map_or("passed", StepId::as_str)
}

#[tokio::test]
async fn every_flipped_bit_of_a_bundle_is_refused_where_the_program_refuses_it() {
    with_browser(|browser| async move {
        browser.open(&page_on_disk()).await;
        let (bundle, opening) =
            (vector("verify/round.bundle.json"), vector("verify/round.opening.json"));
        let body = format!(
            "{VERIFY}
             const bytes = utf8(args.bundle);
             const opening = parseJson(args.opening);
             const fates = [];
             for (let bit = 0; bit < bytes.length * 8; bit += 1) {{
               const flipped = bytes.slice();
               flipped[bit >> 3] ^= 1 << (bit & 7);
               let bundle;
               try {{
                 bundle = parseJson(await readFile(new File([flipped], 'bundle')));
                 readBundle(bundle);
               }} catch (error) {{
                 if (!(error instanceof Malformed)) throw error;
                 fates.push('-');
                 continue;
               }}
               const {{ steps }} = await verify(bundle, opening);
               fates.push(steps.find((step) => step.status === 'failed')?.id ?? 'passed');
             }}
             return fates;"
        );
        let args = json!({ "keys": key_lines(), "bundle": bundle, "opening": opening });
        let fates = browser.run(&body, args).await;
        let fates: Vec<&str> =
            fates.as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
        let opening = Opening::parse(opening.as_bytes()).unwrap();
        let mut bytes = bundle.clone().into_bytes();
        assert_eq!(fates.len(), bytes.len() * 8);
        for (bit, theirs) in fates.into_iter().enumerate() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let ours = fate(&bytes, &opening);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(theirs, "passed", "bit {bit}");
            assert_eq!(
                theirs,
                ours,
                "bit {bit}: {}",
                bundle.get(bit / 8 - 8..bit / 8 + 8).unwrap_or_default()
            );
        }
    })
    .await;
}

#[tokio::test]
async fn no_flipped_bit_of_an_opening_passes() {
    with_browser(|browser| async move {
        browser.open(&page_on_disk()).await;
        let (bundle, opening) =
            (vector("verify/play.bundle.json"), vector("verify/play.opening.json"));
        // Every byte is hit; the program's own tests flip every bit.
        let body = format!(
            "{VERIFY}
             const bytes = utf8(args.opening);
             const bundle = parseJson(args.bundle);
             const passed = [];
             for (let bit = 0; bit < bytes.length * 8; bit += 5) {{
               const flipped = bytes.slice();
               flipped[bit >> 3] ^= 1 << (bit & 7);
               try {{
                 const read = parseJson(await readFile(new File([flipped], 'opening')));
                 if ((await verify(bundle, read)).verdict !== 'failed') passed.push(bit);
               }} catch (error) {{
                 if (!(error instanceof Malformed)) throw error;
               }}
             }}
             return passed;"
        );
        let args = json!({ "keys": key_lines(), "bundle": bundle, "opening": opening });
        assert_eq!(browser.run(&body, args).await, json!([]));
    })
    .await;
}

#[tokio::test]
async fn files_are_read_as_strictly_as_the_program_reads_them() {
    with_browser(|browser| async move {
        browser.open(&page_on_disk()).await;
        let bundle = vector("verify/round.bundle.json");
        let opening = vector("verify/round.opening.json");
        let bundles = [
            bundle.replacen('{', "{\"more\":1,", 1),
            bundle.replacen("\"kind\"", "\"kind\":\"round\",\"kind\"", 1),
            bundle.replacen("\"kind\":\"round\",", "", 1),
            bundle.replacen("\"kind\":\"round\"", "\"kind\":null", 1),
            bundle.replacen("\"round\":\"0190b2f0", "\"round\":\"0190B2F0", 1),
            bundle.replacen("\"round\":\"0190b2f0-", "\"round\":\"0190b2f0", 1),
            bundle.replacen("\"origin\":\"demo", "\"origin\":\"\\ud800demo", 1),
            bundle.replacen("\"origin\":\"demo", "\"origin\":\"\tdemo", 1),
            bundle.replace("]}", ",]}"),
            format!("{bundle}{{}}"),
            format!("\u{feff}{bundle}"),
            format!("{bundle}{}", " ".repeat(1024 * 1024)),
            "[".repeat(100_000),
            String::new(),
        ];
        let openings = [
            opening.replacen("5a5a", "5A5a", 1),
            opening.replacen("\"payout_micro\":0", "\"payout_micro\":-0", 1),
            opening.replacen("\"payout_micro\":0", "\"payout_micro\":0.0", 1),
            opening.replacen("\"payout_micro\":0", "\"payout_micro\":00", 1),
            opening.replacen("\"payout_micro\":0", "\"payout_micro\":0e0", 1),
            opening.replacen("\"payout_micro\":0", "\"payout_micro\":9000000000000001", 1),
            opening.replacen("\"index\":1", "\"index\":18446744073709551616", 1),
            opening.replacen("=\"]", "\"]", 1),
        ];
        for text in &bundles {
            assert!(*text != bundle && Bundle::parse(text.as_bytes()).is_err(), "{text:.300}");
        }
        for text in &openings {
            assert!(*text != opening && Opening::parse(text.as_bytes()).is_err(), "{text:.300}");
        }
        let body = "const read = [];
            for (const content of args) {
              try { await accept(content); read.push(content.slice(0, 300)); } catch (error) {
                if (!(error instanceof Malformed)) throw error;
              }
            }
            return read;";
        let bad: Vec<&String> = bundles.iter().chain(&openings).collect();
        assert_eq!(browser.run(body, json!(bad)).await, json!([]));
        assert_eq!(
            browser.run(body, json!([&bundle, &opening])).await.as_array().unwrap().len(),
            2
        );
    })
    .await;
}

#[tokio::test]
async fn outcomes_and_payouts_are_the_published_ones() {
    with_browser(|browser| async move {
        browser.open(&page_on_disk()).await;
        let published: Value = serde_json::from_str(&vector("outcomes.json")).unwrap();
        let vectors = published["vectors"].as_array().unwrap();
        let body = "const found = [];
            for (const { game, params, seed, context, payouts } of args) {
              const draws = new Draws(readHash(seed), context);
              const outcome = await GAMES.get(game).outcome(params, draws);
              const pays = ({ stake_micro: stake, selection }) =>
                Number(GAMES.get(game).payout(params, BigInt(stake), selection, outcome));
              found.push({ outcome, payouts: payouts.map(pays) });
            }
            return found;";
        let found = browser.run(body, json!(vectors)).await;
        for (vector, found) in vectors.iter().zip(found.as_array().unwrap()) {
            assert_eq!(found["outcome"], vector["outcome"], "{}", vector["context"]);
            let payouts = vector["payouts"].as_array().unwrap().iter();
            let payouts: Vec<&Value> = payouts.map(|payout| &payout["payout_micro"]).collect();
            assert_eq!(found["payouts"], json!(payouts), "{}", vector["context"]);
        }
        assert!(vectors.len() >= 10);
    })
    .await;
}

#[tokio::test]
async fn numbers_are_drawn_as_published_rejections_included() {
    with_browser(|browser| async move {
        browser.open(&page_on_disk()).await;
        let published: Value = serde_json::from_str(&vector("draws.json")).unwrap();
        let vectors = published["vectors"].as_array().unwrap();
        let body = "const found = [];
            for (const { seed, context, below, values } of args) {
              const draws = new Draws(readHash(seed), context);
              const numbers = [];
              while (numbers.length < values.length) numbers.push(String(await draws.below(BigInt(below))));
              found.push({ numbers, skipped: draws.log.some((line) => line.includes('skipped')) });
            }
            return found;";
        let found = browser.run(body, json!(vectors)).await;
        let found = found.as_array().unwrap();
        for (vector, found) in vectors.iter().zip(found) {
            assert_eq!(found["numbers"], vector["values"], "{}", vector["context"]);
        }
        assert!(found.iter().any(|found| found["skipped"] == true));
    })
    .await;
}
