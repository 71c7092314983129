//! The second visit: a log may grow, and may not change.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    browser::{Browser, with_browser},
    drop_files, page_on_disk, paste, pin_keys,
    server::{consistency, serve},
    shown,
};

const FROM_6_TO_10: &str = "from=6&to=10";

/// The size that the page remembers of the log.
async fn kept_size(browser: &Browser) -> Value {
    let body = "return memory.get(CHECKPOINT + 'demo/MT/1')?.split('\\n')[1] ?? null;";
    browser.run(body, Value::Null).await
}

/// First visit: the log is seen at size 6, with a round that is still open.
async fn first_visit(browser: &Browser, page: &str) {
    browser.open(page).await;
    pin_keys(browser).await;
    drop_files(browser, &["verify/open.bundle.json"]).await;
    shown(browser, "not-revealed", "first").await;
    assert_eq!(kept_size(browser).await, "6");
    let remembers = "pinnedLines().length === 2 && memory.get(CHECKPOINT + 'demo/MT/1')";
    browser.reopen(page, remembers).await;
}

#[tokio::test]
async fn a_log_that_grew_is_shown_to_extend_what_was_seen() {
    with_browser(|browser| async move {
        let page = serve(BTreeMap::from([(FROM_6_TO_10, consistency("round"))])).await;
        first_visit(&browser, &page).await;
        drop_files(&browser, &["verify/round.bundle.json", "verify/round.opening.json"]).await;
        shown(&browser, "verified", "extended").await;
        assert_eq!(kept_size(&browser).await, "10");
        // An older file is compared, too, and the newer checkpoint stays.
        drop_files(&browser, &["verify/open.bundle.json", "verify/open.opening.json"]).await;
        shown(&browser, "not-revealed", "extended").await;
        assert_eq!(kept_size(&browser).await, "10");
        drop_files(&browser, &["verify/round.bundle.json", "verify/round.opening.json"]).await;
        shown(&browser, "verified", "same").await;
        assert_eq!(browser.complaints().await, Vec::<String>::new());
        // The same size with another root: both notes are kept as evidence, and the memory does not change.
        drop_files(&browser, &["verify/void.bundle.json", "verify/void.opening.json"]).await;
        shown(&browser, "verified", "alarm").await;
        let body = "return { tone: document.querySelector('#verdict').dataset.tone,
            notes: document.querySelector('#evidence-text').textContent.split('\\u2014 demo/MT/1 ').length - 1,
            hidden: document.querySelector('#evidence').hidden };";
        let found = browser.run(body, Value::Null).await;
        assert_eq!(found, json!({ "tone": "bad", "notes": 2, "hidden": false }));
        browser.open(&page).await;
        drop_files(&browser, &["verify/round.bundle.json"]).await;
        shown(&browser, "verified", "same").await;
    })
    .await;
}

#[tokio::test]
async fn a_forked_log_is_caught_whatever_its_reader_answers() {
    with_browser(|browser| async move {
        // A proof of the fork's own history does not lead from what was seen …
        let page = serve(BTreeMap::from([(FROM_6_TO_10, consistency("play"))])).await;
        first_visit(&browser, &page).await;
        drop_files(&browser, &["verify/play.bundle.json"]).await;
        shown(&browser, "verified", "failed").await;
        assert_eq!(kept_size(&browser).await, "6");
    })
    .await;
    with_browser(|browser| async move {
        // … and one of the honest history ends in another root than the file states.
        let page = serve(BTreeMap::from([(FROM_6_TO_10, consistency("round"))])).await;
        first_visit(&browser, &page).await;
        drop_files(&browser, &["verify/play.bundle.json"]).await;
        shown(&browser, "verified", "alarm").await;
        assert_eq!(kept_size(&browser).await, "6");
    })
    .await;
}

#[tokio::test]
async fn a_page_from_disk_takes_a_pasted_proof() {
    with_browser(|browser| async move {
        first_visit(&browser, &page_on_disk()).await;
        drop_files(&browser, &["verify/round.bundle.json"]).await;
        shown(&browser, "verified", "wanted").await;
        assert_eq!(kept_size(&browser).await, "6", "what was not compared is not remembered");
        for (bad, becomes) in [
            (consistency("round").replacen("old 6", "old 5", 1), "wanted"),
            (consistency("round").replacen("\n\n", "\nAAAA\n\n", 1), "wanted"),
            (consistency("round").replacen("ezQo", "fzQo", 1), "failed"),
        ] {
            paste(&browser, &bad).await;
            shown(&browser, "verified", becomes).await;
            assert_eq!(kept_size(&browser).await, "6");
        }
        paste(&browser, &consistency("round")).await;
        shown(&browser, "verified", "extended").await;
        assert_eq!(kept_size(&browser).await, "10");
        // Another pinned key of the same name: what it signs is not compared with what the old one signed.
        let body = "memory.set(CHECKPOINT + 'demo/MT/1', memory.get(CHECKPOINT + 'demo/MT/1').replace('KjSE', 'KjSF'));
            await check();";
        browser.run(body, Value::Null).await;
        shown(&browser, "verified", "failed").await;
        browser.click("#kept li button:last-child").await;
        shown(&browser, "verified", "first").await;
    })
    .await;
}
