//! Which tokens are accepted, and for how long.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use domicile_core::claims::{Claims, PlayerSession};
use domicile_core::error::Code;
use domicile_core::ids::{ClusterId, GameCode, Jurisdiction, OperatorId, PlayerRef, SessionId};
use domicile_core::money::Currency;
use domicile_service::clock::{Clock, ManualClock};
use domicile_service::token::{TokenAlgorithm, TokenKeys, TokenSigner, TokenVerifier};
use http::{HeaderMap, HeaderValue, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::{Value, json};

const NOW_UNIX_S: u64 = 1_800_000_000;

struct Bench {
    ed: KeyPair,
    ec: KeyPair,
    clock: Arc<ManualClock>,
    verifier: TokenVerifier,
}

impl Bench {
    fn new() -> Self {
        let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let clock = Arc::new(ManualClock::at_unix_s(NOW_UNIX_S));
        let cluster = ClusterId::parse("demo").unwrap();
        let keys = Self::keys(&ed, &ec);
        let verifier = TokenVerifier::new(cluster, clock.clone(), keys);
        Self { ed, ec, clock, verifier }
    }

    fn keys(ed: &KeyPair, ec: &KeyPair) -> TokenKeys {
        let mut keys = TokenKeys::new();
        keys.add("ed-1", TokenAlgorithm::EdDsa, &ed.public_key_pem()).unwrap();
        keys.add("ec-1", TokenAlgorithm::Es256, &ec.public_key_pem()).unwrap();
        keys
    }

    fn signer(&self) -> TokenSigner {
        TokenSigner::from_pem("ed-1", &self.ed.serialize_pem().into()).unwrap()
    }

    fn ed_key(&self) -> EncodingKey {
        EncodingKey::from_ed_pem(self.ed.serialize_pem().as_bytes()).unwrap()
    }

    fn good(&self) -> String {
        self.signer().sign(&claims()).unwrap()
    }

    /// A token with claims changed, signed by the right key.
    fn with(&self, name: &str, value: Value) -> String {
        let mut claims = json!(claims());
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.to_owned(), value),
        };
        signed(Algorithm::EdDSA, Some("ed-1"), &claims, &self.ed_key())
    }

    fn refusal(&self, token: &str) -> Code {
        self.verifier.verify(token).unwrap_err()
    }
}

fn claims() -> Claims {
    let session = PlayerSession {
        operator: OperatorId::parse("acme").unwrap(),
        player: PlayerRef::parse("player-1").unwrap(),
        session: SessionId::parse("01890a5d-ac96-774b-bcce-b302099a8057").unwrap(),
        game: GameCode::parse("hilo-dice").unwrap(),
        currency: Currency::parse("EUR").unwrap(),
    };
    let issuer = ClusterId::parse("demo").unwrap();
    Claims::player(&issuer, &session, &Jurisdiction::parse("MT").unwrap(), NOW_UNIX_S, 600)
}

fn signed(
    algorithm: Algorithm,
    kid: Option<&str>,
    claims: &impl serde::Serialize,
    key: &EncodingKey,
) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

fn b64(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn both_algorithms_are_accepted() {
    let bench = Bench::new();
    let validated = bench.verifier.verify(&bench.good()).unwrap();
    assert_eq!(validated.jurisdiction.as_str(), "MT");
    assert_eq!(validated.player().unwrap().operator.as_str(), "acme");
    let key = EncodingKey::from_ec_pem(bench.ec.serialize_pem().as_bytes()).unwrap();
    let token = signed(Algorithm::ES256, Some("ec-1"), &claims(), &key);
    assert!(bench.verifier.verify(&token).is_ok());
}

#[test]
fn a_signature_counts_only_with_its_own_key_and_algorithm() {
    let bench = Bench::new();
    let (claims, pem) = (claims(), bench.ed.public_key_pem());
    let raw = bench.ed.public_key_raw();
    let der = STANDARD.decode(pem.lines().filter(|l| !l.starts_with('-')).collect::<String>());
    for secret in [pem.as_bytes(), raw, &der.unwrap()] {
        let secret = EncodingKey::from_secret(secret);
        let token = signed(Algorithm::HS256, Some("ed-1"), &claims, &secret);
        assert_eq!(bench.refusal(&token), Code::TokenAlgorithm, "public key as shared secret");
    }
    for alg in ["none", "None", "NONE", "ES256", "RS256", "eddsa", ""] {
        let header = b64(&json!({"alg": alg, "kid": "ed-1", "typ": "JWT"}));
        for signature in ["", bench.good().rsplit('.').next().unwrap()] {
            let token = format!("{header}.{}.{signature}", b64(&json!(claims)));
            assert_eq!(bench.refusal(&token), Code::TokenAlgorithm, "{alg}");
        }
    }
    let unsigned = format!("{}.", bench.good().rsplit_once('.').unwrap().0);
    assert_eq!(bench.refusal(&unsigned), Code::TokenSignature);
    let stranger = Bench::new().ed_key();
    let token = signed(Algorithm::EdDSA, Some("ed-1"), &claims, &stranger);
    assert_eq!(bench.refusal(&token), Code::TokenSignature, "another key under our id");
    for kid in [None, Some("ed-2"), Some("")] {
        let token = signed(Algorithm::EdDSA, kid, &claims, &bench.ed_key());
        assert_eq!(bench.refusal(&token), Code::TokenUnknownKey, "{kid:?}");
    }
    let token = signed(Algorithm::EdDSA, Some("ec-1"), &claims, &bench.ed_key());
    assert_eq!(bench.refusal(&token), Code::TokenAlgorithm, "the key decides");
}

#[test]
fn tampering_and_bad_form_are_refused() {
    let bench = Bench::new();
    let good = bench.good();
    let parts: Vec<_> = good.split('.').collect();
    let mut richer = json!(claims());
    richer["jurisdiction"] = json!("DE");
    let tampered = format!("{}.{}.{}", parts[0], b64(&richer), parts[2]);
    assert_eq!(bench.refusal(&tampered), Code::TokenSignature);
    let critical = b64(&json!({"alg": "EdDSA", "kid": "ed-1", "crit": ["b64"], "b64": false}));
    for malformed in [
        "",
        ".",
        "..",
        "a.b.c",
        "not a token",
        &format!("{good}.{}", parts[2]),
        &format!("{critical}.{}.{}", parts[1], parts[2]),
        &format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
    ] {
        assert_eq!(bench.refusal(malformed), Code::TokenMalformed, "{malformed}");
    }
    let first = if parts[2].starts_with('A') { 'B' } else { 'A' };
    let rest = parts[2].get(1..).unwrap();
    let changed = format!("{}.{}.{first}{rest}", parts[0], parts[1]);
    assert_eq!(bench.refusal(&changed), Code::TokenSignature);
    assert_eq!(bench.refusal(&"a".repeat(4_097)), Code::TokenTooLarge);
    assert!(bench.verifier.verify(&good).is_ok(), "and the good one still passes");
}

#[test]
fn claims_are_checked_one_by_one() {
    let bench = Bench::new();
    for (name, value, code) in [
        ("iss", json!("other"), Code::TokenIssuer),
        ("aud", json!("other"), Code::TokenIssuer),
        ("exp", json!(NOW_UNIX_S - 1_000), Code::TokenClaims),
        ("iat", json!(NOW_UNIX_S + 60), Code::TokenNotYetValid),
        ("nbf", json!(NOW_UNIX_S + 60), Code::TokenNotYetValid),
        ("exp", json!(NOW_UNIX_S + 3_601), Code::TokenClaims),
        ("exp", json!(-1), Code::TokenClaims),
        ("exp", json!("soon"), Code::TokenClaims),
        ("jurisdiction", json!("malta"), Code::TokenClaims),
        ("scope", json!("admin"), Code::TokenClaims),
        ("scope", json!("inspector"), Code::TokenClaims),
        ("session", json!("1"), Code::TokenClaims),
    ] {
        assert_eq!(bench.refusal(&bench.with(name, value.clone())), code, "{name} = {value}");
    }
    for missing in
        ["iss", "aud", "sub", "operator", "session", "game", "currency", "jurisdiction", "scope"]
    {
        let code = bench.refusal(&bench.with(missing, Value::Null));
        assert_eq!(code, Code::TokenClaims, "without {missing}");
    }
    for missing in ["iat", "exp"] {
        assert_eq!(bench.refusal(&bench.with(missing, Value::Null)), Code::TokenClaims);
    }
    bench.clock.advance(Duration::from_secs(606));
    assert_eq!(bench.refusal(&bench.good()), Code::TokenExpired, "never seen before");
}

#[test]
fn a_recognised_token_still_expires() {
    let bench = Bench::new();
    let token = bench.good();
    let first = bench.verifier.verify(&token).unwrap();
    bench.clock.advance(Duration::from_secs(604));
    let again = bench.verifier.verify(&token).unwrap();
    assert!(Arc::ptr_eq(&first, &again), "recognised, not verified again");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.refusal(&token), Code::TokenExpired);
    assert_eq!(bench.refusal(&token), Code::TokenExpired);
    assert_eq!(bench.clock.now_unix_s(), NOW_UNIX_S + 605);
}

#[test]
fn a_withdrawn_key_takes_its_tokens_with_it() {
    let bench = Bench::new();
    let token = bench.good();
    let first = bench.verifier.verify(&token).unwrap();
    bench.verifier.replace_keys(Bench::keys(&bench.ed, &bench.ec));
    let again = bench.verifier.verify(&token).unwrap();
    assert!(!Arc::ptr_eq(&first, &again), "verified anew after any change of keys");
    bench.verifier.replace_keys(TokenKeys::new());
    assert_eq!(bench.refusal(&token), Code::TokenUnknownKey);
}

#[test]
fn keys_that_do_not_fit_are_refused() {
    let bench = Bench::new();
    let (ed, ec) = (bench.ed.public_key_pem(), bench.ec.public_key_pem());
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().public_key_pem();
    let mut keys = TokenKeys::new();
    assert!(keys.add("a", TokenAlgorithm::EdDsa, &ec).is_err());
    assert!(keys.add("a", TokenAlgorithm::Es256, &ed).is_err());
    assert!(keys.add("a", TokenAlgorithm::Es256, &p384).is_err());
    assert!(keys.add("a", TokenAlgorithm::EdDsa, "nonsense").is_err());
    assert!(keys.add("", TokenAlgorithm::EdDsa, &ed).is_err());
    assert!(keys.add(&"k".repeat(65), TokenAlgorithm::EdDsa, &ed).is_err());
    keys.add("a", TokenAlgorithm::EdDsa, &ed).unwrap();
    assert!(keys.add("a", TokenAlgorithm::Es256, &ec).is_err(), "one id, one key");
    let public = ed.into();
    assert!(TokenSigner::from_pem("a", &public).is_err());
    assert!(TokenSigner::from_pem("a", &bench.ec.serialize_pem().into()).is_err());
}

#[test]
fn a_signer_takes_pkcs8_of_either_version_and_shows_no_secret() {
    // PKCS #8 version 1, as `openssl genpkey` writes it: no public key inside.
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([7; 32]);
    let pem = STANDARD.encode(der);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n");
    let signer = TokenSigner::from_pem("v1", &pem.clone().into()).unwrap();
    assert!(signer.sign(&claims()).is_ok());
    assert_eq!(format!("{signer:?}"), "TokenSigner { kid: \"v1\", .. }");
}

#[test]
fn the_bearer_header_is_read_strictly() {
    let bench = Bench::new();
    let good = bench.good();
    let with = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        bench.verifier.verify_request(&headers).err()
    };
    let bearer = format!("Bearer {good}");
    assert_eq!(with(&[&bearer]), None);
    assert_eq!(with(&[&format!("bearer {good}")]), None);
    assert_eq!(with(&[]), Some(Code::TokenMissing));
    assert_eq!(with(&["Basic dXNlcg=="]), Some(Code::TokenMissing));
    assert_eq!(with(&["Bearer"]), Some(Code::TokenMalformed));
    assert_eq!(with(&[&bearer, &bearer]), Some(Code::TokenMalformed));
}
