//! What a player does: pin keys, drop, choose or paste files, read the answer.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    browser::{Browser, with_browser},
    drop_files, page_on_disk, paste, pin_keys,
    server::serve,
    shown, vector, vector_path,
};

/// The status of each step, as the page shows it.
async fn statuses(browser: &Browser) -> Value {
    let body = "return [...document.querySelectorAll('#steps > li')].map((step) => step.dataset.status).join(' ');";
    browser.run(body, Value::Null).await
}

async fn note(browser: &Browser, id: &str) -> String {
    let note = browser.run("return document.getElementById(args).textContent;", json!(id)).await;
    note.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_player_drops_a_bundle_and_an_opening() {
    with_browser(|browser| async move {
        browser.open(&serve(BTreeMap::new()).await).await;
        drop_files(&browser, &["verify/round.bundle.json"]).await;
        browser
            .appears("document.querySelector('#verdict').textContent.startsWith('Pin a key first')")
            .await;
        pin_keys(&browser).await;
        shown(&browser, "verified", "first").await;
        assert_eq!(statuses(&browser).await, "passed passed passed passed passed not-applicable");
        drop_files(&browser, &["verify/round.bundle.json", "verify/round.opening.json"]).await;
        browser.appears("document.querySelector('#step-record').dataset.status === 'passed'").await;
        assert_eq!(statuses(&browser).await, "passed passed passed passed passed passed");
        // Inputs and formula are there for every step.
        let inputs = "return [...document.querySelectorAll('#steps > li')].every((step) =>
            step.querySelectorAll('dd pre').length > 2);";
        assert_eq!(browser.run(inputs, Value::Null).await, json!(true));
        assert_eq!(
            browser.complaints().await,
            Vec::<String>::new(),
            "the policy must allow it all"
        );
    })
    .await;
}

#[tokio::test]
async fn a_player_pastes_chooses_and_types_on_a_page_from_disk() {
    with_browser(|browser| async move {
        browser.open(&page_on_disk()).await;
        pin_keys(&browser).await;
        paste(&browser, &vector("verify/play.bundle.json")).await;
        shown(&browser, "verified", "first").await;
        let path = vector_path("verify/play.opening.json").canonicalize().unwrap();
        browser.type_into("#files", path.to_str().unwrap()).await;
        browser.appears("document.querySelector('#step-record').dataset.status === 'passed'").await;
        // A round that has not ended is no failure.
        drop_files(&browser, &["verify/open.bundle.json", "verify/open.opening.json"]).await;
        browser
            .appears("document.querySelector('#verdict').dataset.verdict === 'not-revealed'")
            .await;
        let expected = "passed passed not-revealed not-revealed not-revealed not-revealed";
        assert_eq!(statuses(&browser).await, expected);
        // A typed text works without a clipboard.
        browser.type_into("#paste", "{\"format\":\"domicile/bundle/v9\"}").await;
        browser.click("#take").await;
        browser
            .appears("document.querySelector('#read-note').textContent.startsWith('Not read')")
            .await;
        // A failed step is named, and what follows it is not checked.
        drop_files(&browser, &["verify/play.bundle.json", "verify/play.opening.json"]).await;
        browser.appears("document.querySelector('#verdict').dataset.verdict === 'verified'").await;
        let edited =
            vector("verify/play.bundle.json").replacen("outcome high", "outcome highest", 1);
        paste(&browser, &edited).await;
        browser.appears("document.querySelector('#verdict').dataset.verdict === 'failed'").await;
        let expected = "passed passed failed not-checked not-checked not-checked";
        assert_eq!(statuses(&browser).await, expected);
        assert_eq!(browser.complaints().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn keys_are_kept_and_a_link_pins_nothing() {
    with_browser(|browser| async move {
        let page = serve(BTreeMap::new()).await;
        let keys = vector("verify/keys.txt");
        let escaped = keys.replace('+', "%2B").replace('\n', "%0A");
        let link = format!("{page}#keys={escaped}");
        browser.open(&link).await;
        assert!(note(&browser, "keys-note").await.starts_with("These came with the link"));
        assert_eq!(note(&browser, "pinned").await, "");
        browser.click("#pin").await;
        browser.appears("document.querySelectorAll('#pinned li').length === 2").await;
        // On the next visit they are still pinned, and the same link has nothing to say.
        browser.reopen(&link, "document.querySelectorAll('#pinned li').length === 2").await;
        assert_eq!(note(&browser, "keys-note").await, "");
        // Another key of the same name is pointed out, and not taken.
        let other = "demo/MT/1%2b00000000%2bAYqI";
        browser.open(&format!("{page}#keys={other}")).await;
        assert!(note(&browser, "keys-note").await.starts_with("Careful"));
        browser.click("#pin").await;
        browser
            .appears("document.querySelector('#keys-note').textContent.startsWith('Not pinned')")
            .await;
        for bad in ["demo/MT/1", "", "a b+2a3484c5+AYqI"] {
            let accepted =
                browser.run("return readKey(args).then(() => true, () => false);", json!(bad));
            assert_eq!(accepted.await, json!(false), "{bad}");
        }
        browser.click("#pinned li:first-child button").await;
        browser.appears("document.querySelectorAll('#pinned li').length === 1").await;
    })
    .await;
}

#[tokio::test]
async fn every_control_has_a_name_and_results_are_announced() {
    with_browser(|browser| async move {
        browser.open(&page_on_disk()).await;
        pin_keys(&browser).await;
        drop_files(&browser, &["verify/round.bundle.json"]).await;
        shown(&browser, "verified", "first").await;
        let body = "const unnamed = [...document.querySelectorAll('input, textarea, button')].filter((control) =>
              !(control.ariaLabel || control.labels?.length || control.textContent.trim()));
            const live = ['verdict', 'history', 'read-note', 'keys-note'].filter((id) =>
              document.getElementById(id).getAttribute('role') !== 'status');
            const small = document.documentElement.scrollWidth > window.innerWidth;
            return { unnamed: unnamed.length, live, small, lang: document.documentElement.lang };";
        let found = browser.run(body, Value::Null).await;
        assert_eq!(found, json!({ "unnamed": 0, "live": [], "small": false, "lang": "en" }));
        // The keyboard reaches what the mouse does.
        let body = "return [...document.querySelectorAll('input, textarea, button, summary')].every((control) =>
            control.tabIndex >= 0);";
        assert_eq!(browser.run(body, Value::Null).await, json!(true));
    })
    .await;
}
