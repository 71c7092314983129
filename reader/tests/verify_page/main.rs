//! The verification page in a real browser: it agrees with the program, and a player can use it.
//!
//! The page is loaded as a player loads it: from disk, and from the reader's own handler with its content policy.

#![cfg(test)]

mod agreement;
mod browser;
mod player;
mod server;
mod visits;

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use browser::Browser;

/// A file of the published vectors.
fn vector_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../core/testdata").join(name)
}

fn vector(name: &str) -> String {
    fs::read_to_string(vector_path(name)).unwrap()
}

/// The address of the page as a file on disk.
fn page_on_disk() -> String {
    format!("file://{}/page/verify.html", env!("CARGO_MANIFEST_DIR"))
}

/// Pins the published keys through the page's field and button.
async fn pin_keys(browser: &Browser) {
    browser.type_into("#keys", &vector("verify/keys.txt")).await;
    browser.click("#pin").await;
    browser.appears("document.querySelectorAll('#pinned li').length === 2").await;
}

/// Drops files onto the page, as texts with names.
async fn drop_files(browser: &Browser, names: &[&str]) {
    let files: Vec<Value> = names.iter().map(|name| json!([name, vector(name)])).collect();
    let body = "const data = new DataTransfer();
        for (const [name, content] of args) data.items.add(new File([content], name));
        const event = new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
        document.querySelector('#drop').dispatchEvent(event);
        return event.defaultPrevented;";
    let taken = browser.run(body, json!(files)).await;
    assert_eq!(taken, json!(true), "a dropped file must not replace the page");
}

/// Pastes a text onto the page.
async fn paste(browser: &Browser, content: &str) {
    let body = "const data = new DataTransfer();
        data.setData('text/plain', args);
        const event = new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true });
        document.querySelector('#paste').dispatchEvent(event);";
    browser.run(body, json!(content)).await;
}

/// Waits for a verdict and for what the memory of the log says, as shown.
async fn shown(browser: &Browser, verdict: &str, history: &str) {
    let condition = format!(
        "!document.body.dataset.busy && document.querySelector('#verdict').dataset.verdict === '{verdict}'
         && document.querySelector('#history').dataset.history === '{history}'"
    );
    browser.appears(&condition).await;
}
