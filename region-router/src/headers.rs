//! Header hygiene: what a caller may say to our services, and what they may say back.
//!
//! Invariants: hop-by-hop headers end here in both directions; whatever could pass for the word of
//! this router (where a request came from, who the peer is, what another layer rewrote) is removed
//! from the outside and set anew; of our own `Domicile-*` names only request headers come in.
//! Deliberately absent: rewriting of content or of caching.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What callers may send of our own header names.
const OWN_REQUEST_HEADERS: [&str; 4] =
    ["domicile-key-id", "domicile-timestamp", "domicile-signature", "domicile-min-log-size"];

const OWN_PREFIX: &str = "domicile-";

/// Of one connection, not of the request (RFC 9110 §7.6.1), and upgrades, which are not offered.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Claims about origin, peer or rewriting that only we may make.
const SPOOFABLE: [&str; 15] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "client-cert",
    "client-cert-chain",
    "x-client-cert",
    "x-http-method-override",
    "x-method-override",
    "x-rewrite-url",
    "baggage",
];

const SPOOFABLE_PREFIXES: [&str; 5] =
    ["x-forwarded", "x-original-", "x-ssl-", "x-spiffe-", "x-envoy-"];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Makes a caller's headers fit for an upstream. `keep_token` leaves the verified token in.
pub fn for_upstream(headers: &mut HeaderMap, client: IpAddr, keep_token: bool) {
    remove_hop_by_hop(headers);
    remove(headers, |name| {
        let own = name.starts_with(OWN_PREFIX) && !OWN_REQUEST_HEADERS.contains(&name);
        let spoofable = SPOOFABLE.contains(&name)
            || SPOOFABLE_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        // Another spelling of the same word for frameworks that treat `_` as `-`.
        own || spoofable || name.contains('_') || matches!(name, "expect" | "host")
    });
    if !keep_token {
        headers.remove(header::AUTHORIZATION);
    }
    if let Ok(client) = HeaderValue::from_str(&client.to_canonical().to_string()) {
        headers.insert(X_FORWARDED_FOR, client);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
}

/// Makes an upstream's headers fit for the caller.
pub fn for_caller(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    // These would speak about the upstream's address, which is not the caller's to use.
    headers.remove(header::ALT_SVC);
    headers.remove(header::SERVER);
}

/// Bytes of all names and values with the two separators each takes on the wire.
pub fn wire_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse::<HeaderValue>().unwrap())).collect()
    }

    #[test]
    fn spoofed_and_hop_by_hop_headers_are_removed() {
        let mut map = headers(&[
            ("connection", "close, X-Secret-Hop"),
            ("x-secret-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-client-cert", "By=spiffe://demo/router/x"),
            ("forwarded", "for=10.0.0.1"),
            ("domicile-replayed", "true"),
            ("domicile-peer", "spiffe://demo/ctl/x"),
            ("domicile_key_id", "x"),
            ("client-cert", ":abc:"),
            ("x-original-url", "/internal/v1/operators"),
            ("host", "evil.example"),
            ("authorization", "Bearer x"),
            ("domicile-key-id", "k1"),
            ("domicile-min-log-size", "7"),
            ("idempotency-key", "a"),
            ("traceparent", "00-1-1-01"),
            ("accept", "*/*"),
        ]);
        for_upstream(&mut map, CLIENT, true);
        let mut names: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "authorization",
                "domicile-key-id",
                "domicile-min-log-size",
                "idempotency-key",
                "traceparent",
                "x-forwarded-for",
                "x-forwarded-proto",
            ]
        );
        assert_eq!(map["x-forwarded-for"], "192.0.2.7");
        for_upstream(&mut map, CLIENT, false);
        assert!(!map.contains_key("authorization"));
    }

    #[test]
    fn answers_lose_what_is_of_the_connection() {
        let mut map = headers(&[
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("alt-svc", "h3=\":443\""),
            ("domicile-log-size", "12"),
        ]);
        for_caller(&mut map);
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["domicile-log-size"]);
    }

    proptest! {
        #[test]
        fn nothing_from_outside_speaks_for_us(
            names in prop::collection::vec("(x-forwarded-|domicile-|x-ssl-|forwarded|via)?[a-z_-]{0,12}", 0..20),
            connection in "[a-z, -]{0,40}",
        ) {
            let mut map: HeaderMap = names
                .iter()
                .filter_map(|name| Some((name.parse().ok()?, HeaderValue::from_static("outside"))))
                .collect();
            map.extend(headers(&[("connection", connection.trim())]));
            for_upstream(&mut map, CLIENT, true);
            prop_assert_eq!(&map["x-forwarded-for"], "192.0.2.7");
            prop_assert_eq!(map.get_all("x-forwarded-for").iter().count(), 1);
            for (name, value) in &map {
                let name = name.as_str();
                let ours = name.starts_with("domicile-") && !OWN_REQUEST_HEADERS.contains(&name);
                prop_assert!(!ours && !HOP_BY_HOP.contains(&name), "{}", name);
                prop_assert!(!name.starts_with("x-forwarded") || value != "outside");
            }
        }
    }
}
