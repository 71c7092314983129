//! The yardstick for routing: HAProxy with the router's certificate, in front of the same reader over the same
//! mutual TLS. It checks algorithm, signature and expiry and maps the jurisdiction claim to a backend; issuer
//! and audience, sessions, quotas and health beyond a connection it does not check.

use crate::cpu::Processes;
use crate::scene::Scene;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The header with the reader's token where HAProxy checks another one.
pub(crate) const SECOND_TOKEN: &str = "reader-authorization";
/// How long it may take to listen.
const LISTEN_WITHIN: Duration = Duration::from_secs(10);
/// Ports that are tried.
const PORTS: std::ops::Range<u16> = 20_000..20_300;

/// What is checked before the request goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Check {
    /// A signature with the topology's ES256 key.
    Es256,
    /// A shared secret.
    Hs256,
    /// Nothing.
    None,
}

/// A running HAProxy; stops when dropped.
pub(crate) struct HaProxy {
    process: Child,
    ports: [u16; 3],
}

impl HaProxy {
    /// Writes the configuration and starts it.
    pub(crate) async fn start(scene: &Scene, secret: &str) -> Self {
        let folder = scene.cluster.state().join("haproxy");
        std::fs::create_dir_all(&folder).expect("HAProxy's folder");
        let tls = scene.router_tls();
        let read =
            |name: &str| std::fs::read_to_string(tls.join(name)).expect("the router's TLS files");
        put(&folder, "router.pem", &format!("{}{}", read("cert.pem"), read("key.pem")));
        put(&folder, "ca.pem", &read("ca.pem"));
        put(&folder, "es256.pem", &scene.key.public_pem());
        put(&folder, "jurisdictions.map", "MT reader-mt\n");
        let ports = free_ports();
        let reader = scene.reader().address;
        put(&folder, "haproxy.cfg", &configuration(ports, &reader, secret));
        let process = Command::new(program())
            .args(["-db", "-q", "-f", "haproxy.cfg"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .spawn()
            .expect("start haproxy");
        let proxy = Self { process, ports };
        domicile_tests::eventually::eventually("HAProxy listens", LISTEN_WITHIN, || async {
            let address = ("127.0.0.1", ports[0]);
            tokio::net::TcpStream::connect(address)
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        })
        .await;
        proxy
    }

    /// The listener with this check.
    pub(crate) fn url(&self, check: Check) -> String {
        format!("https://127.0.0.1:{}", self.ports[check as usize])
    }

    /// The process.
    pub(crate) fn processes(&self) -> Processes {
        Processes::new(&[i32::try_from(self.process.id()).expect("a pid")])
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        self.process.kill().expect("stop haproxy");
        self.process.wait().expect("haproxy's end");
    }
}

/// The program, as `.ci/tools` hands it over.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("DOMICILE_HAPROXY").expect("DOMICILE_HAPROXY names the program").into()
}

fn put(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("write a file for haproxy");
}

fn free_ports() -> [u16; 3] {
    let mut free = PORTS.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    std::array::from_fn(|_| free.next().expect("a free port"))
}

fn configuration([es256, hs256, none]: [u16; 3], reader: &str, secret: &str) -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (es256_check, hs256_check) = (check("ES256", "es256.pem"), check("HS256", secret));
    format!(
        "global
  nbthread {threads}
  maxconn 4096
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 30s
  http-reuse always
frontend es256
  bind 127.0.0.1:{es256} ssl crt router.pem alpn http/1.1
{es256_check}
  use_backend %[var(txn.jurisdiction),map(jurisdictions.map)]
frontend hs256
  bind 127.0.0.1:{hs256} ssl crt router.pem alpn http/1.1
{hs256_check}
  http-request set-header authorization %[req.hdr({SECOND_TOKEN})]
  http-request del-header {SECOND_TOKEN}
  use_backend %[var(txn.jurisdiction),map(jurisdictions.map)]
frontend unchecked
  bind 127.0.0.1:{none} ssl crt router.pem alpn http/1.1
  default_backend reader-mt
backend reader-mt
  server reader-mt {reader} ssl crt router.pem ca-file ca.pem verify required alpn http/1.1
"
    )
}

/// Algorithm, signature, expiry, claim: the router's check as far as HAProxy can express it.
fn check(algorithm: &str, key: &str) -> String {
    format!(
        "  http-request set-var(txn.bearer) http_auth_bearer
  http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
  http-request deny deny_status 401 unless {{ var(txn.alg) -m str {algorithm} }}
  http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,\"{key}\") -m int 1 }}
  http-request set-var(txn.now) date()
  http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
  http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
  http-request set-var(txn.jurisdiction) var(txn.bearer),jwt_payload_query('$.jurisdiction')
  http-request deny deny_status 403 unless {{ var(txn.jurisdiction),map(jurisdictions.map) -m found }}"
    )
}
