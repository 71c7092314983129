//! Metrics as the writer's own admin listeners tell them.

use crate::cluster::Cluster;

/// One, in thousandths.
pub const ONE: u64 = 1_000;

/// The sum of a metric's samples that have all these labels, over the preferred region's writers, in thousandths.
pub async fn thousandths(cluster: &Cluster, name: &str, labels: &[&str]) -> u64 {
    by_writer(cluster, name, labels).await.iter().flatten().sum()
}

/// Those samples, writer by writer, in thousandths.
pub async fn by_writer(cluster: &Cluster, name: &str, labels: &[&str]) -> Vec<Vec<u64>> {
    let topology = cluster.topology();
    let mut all = Vec::new();
    for writer in topology.writers_in(&topology.failover.preferred_region) {
        let url = format!("http://{}/metrics", writer.admin);
        let request = http::Request::get(url).body(bytes::Bytes::new()).expect("a request");
        let answer = cluster.outside().send(request).await.expect("the metrics");
        let text = String::from_utf8(answer.body().to_vec()).expect("text");
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        all.push(samples.filter_map(value).collect());
    }
    all
}

/// The value of a sample, in thousandths.
fn value(sample: &str) -> Option<u64> {
    let value = sample.rsplit(' ').next()?;
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    let part: String = part.chars().chain("000".chars()).take(3).collect();
    Some(whole.parse::<u64>().ok()? * ONE + part.parse::<u64>().ok()?)
}
