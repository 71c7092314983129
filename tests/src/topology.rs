//! Topology documents for tests: as many regions as asked for, on ports of their own.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports of one region of a test cluster.
const PORTS_PER_REGION: u16 = 30;
/// The first port ever used; all are below the ephemeral range.
const FIRST_PORT: u16 = 10_000;
/// The last port ever used.
const LAST_PORT: u16 = 19_999;

/// One region of a test topology.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The jurisdiction and country, such as `MT`.
    pub code: &'static str,
    /// Whether the region holds a ledger node and a writer.
    pub ledger: bool,
}

/// Malta and Germany with the ledger, Britain with a reader only.
pub const THREE_REGIONS: &[Place] = &[
    Place { code: "MT", ledger: true },
    Place { code: "DE", ledger: true },
    Place { code: "GB", ledger: false },
];

/// A document and where its routers listen.
#[derive(Debug, Clone)]
pub struct Document {
    /// The TOML text.
    pub text: String,
}

/// Writes a document for `places`, with one writer in each ledger region; `cluster` must be a slug.
pub fn document(cluster: &str, places: &[Place]) -> Document {
    document_with(cluster, places, 1)
}

/// The same with so many writers in each ledger region, four at most.
pub fn document_with(cluster: &str, places: &[Place], writers: u16) -> Document {
    let block = u16::try_from(places.len()).unwrap_or(u16::MAX).saturating_mul(PORTS_PER_REGION);
    let base = free_ports(block);
    let mut text = format!(
        "cluster = \"{cluster}\"\ngeneration = 1\n\n[durability]\nmode = \"two\"\n\n\
         [failover]\npolicy = \"manual\"\npreferred_region = \"{}\"\n",
        region(places.first().expect("a topology has a region"))
    );
    for (place, offset) in places.iter().zip((0..).step_by(usize::from(PORTS_PER_REGION))) {
        let first = base + u16::try_from(offset).expect("few regions");
        write_region(&mut text, place, first);
        if place.ledger {
            (0..writers).for_each(|number| write_writer(&mut text, place, first, number));
        }
    }
    let ledger_regions: Vec<String> =
        places.iter().filter(|place| place.ledger).map(region).collect();
    for place in places {
        let home = region(place);
        let mut allowed = ledger_regions.clone();
        if !allowed.contains(&home) {
            allowed.push(home.clone());
        }
        let _written = write!(
            text,
            "\n[[jurisdiction]]\ncode = \"{}\"\nwriter_regions = {ledger_regions:?}\n\
             required_copy_regions = [\"{home}\"]\nallowed_regions = {allowed:?}\n\
             serve_regions = [\"{home}\"]\nlag_limit_ms = 5000\npublish_log = true\n",
            place.code
        );
    }
    Document { text }
}

/// The region's name: `mt-1`.
pub fn region(place: &Place) -> String {
    format!("{}-1", place.code.to_lowercase())
}

fn write_region(text: &mut String, place: &Place, base: u16) {
    let (name, id) = (place.code.to_lowercase(), region(place));
    let code = place.code;
    let port = |offset: u16| base + offset;
    let _written = write!(
        text,
        "\n[[region]]\nid = \"{id}\"\ncountry = \"{code}\"\n\
         \n[[etcd]]\nnode = \"etcd-{name}\"\nregion = \"{id}\"\n\
         client = \"https://127.0.0.1:{}\"\npeer = \"https://127.0.0.1:{}\"\n\
         \n[[reader]]\nnode = \"reader-{name}\"\nregion = \"{id}\"\njurisdictions = [\"{code}\"]\n\
         postgres = \"127.0.0.1:{}\"\nagent = \"https://127.0.0.1:{}\"\nagent_admin = \"127.0.0.1:{}\"\n\
         endpoint = \"https://127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\n\
         \n[[router]]\nnode = \"router-{name}\"\nregion = \"{id}\"\n\
         endpoint = \"https://127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\n",
        port(1),
        port(2),
        port(3),
        port(4),
        port(5),
        port(6),
        port(7),
        port(0),
        port(8),
    );
    if place.ledger {
        let _written = write!(
            text,
            "\n[[ledger]]\nnode = \"ledger-{name}\"\nregion = \"{id}\"\n\
             postgres = \"127.0.0.1:{}\"\nagent = \"https://127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\n",
            port(10),
            port(11),
            port(12),
        );
    }
}

fn write_writer(text: &mut String, place: &Place, base: u16, number: u16) {
    let (name, id) = (place.code.to_lowercase(), region(place));
    let suffix = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    let (endpoint, admin) = (base + 13 + 2 * number, base + 14 + 2 * number);
    let _written = write!(
        text,
        "\n[[writer]]\nnode = \"writer-{name}{suffix}\"\nregion = \"{id}\"\n\
         endpoint = \"https://127.0.0.1:{endpoint}\"\nadmin = \"127.0.0.1:{admin}\"\n"
    );
}

/// A block of ports that nothing listens on. Test processes start far apart in the range by their pid.
fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let blocks = (LAST_PORT - FIRST_PORT) / count;
    let start = u16::try_from(std::process::id() % u32::from(blocks)).unwrap_or(0);
    (0..blocks)
        .map(|_| start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % blocks)
        .map(|block| FIRST_PORT + block * count)
        .find(|base| {
            (*base..*base + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        })
        .expect("a block of free ports below 20000")
}
