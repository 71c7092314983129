//! Who is on the other end of a mutual TLS connection.
//!
//! Invariants: an identity comes from a certificate the handshake verified, from its one SPIFFE URI
//! `spiffe://<cluster>/<role>/<node>`; a certificate without exactly one such name has no identity. The
//! subject's common name means nothing here: it is for etcd. A person is named like a node, with a grade for a role.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domicile_core::error::Code;
use domicile_core::ids::{ClusterId, NodeId};
use domicile_core::operation::Grade;
use http::request::Parts;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::problem::Problem;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The command line as a machine's own: it may do everything that a person may.
    Ctl,
    /// A person who looks.
    Viewer,
    /// A person who administers operators, games, credentials, sessions and wallet transactions.
    Operator,
    /// A person who may also move the writer.
    DrLead,
    /// The keeper of one Postgres.
    Agent,
    /// The public entrance.
    Router,
    /// The global writer.
    Writer,
    /// A jurisdiction's reader.
    Reader,
    /// A member of the control plane.
    Etcd,
    /// A test.
    Test,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 10] = [
        Self::Ctl,
        Self::Viewer,
        Self::Operator,
        Self::DrLead,
        Self::Agent,
        Self::Router,
        Self::Writer,
        Self::Reader,
        Self::Etcd,
        Self::Test,
    ];

    /// The name in certificates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ctl => "ctl",
            Self::Viewer => Grade::Viewer.as_str(),
            Self::Operator => Grade::Operator.as_str(),
            Self::DrLead => Grade::DrLead.as_str(),
            Self::Agent => "agent",
            Self::Router => "router",
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::Etcd => "etcd",
            Self::Test => "test",
        }
    }

    /// What a person in this role may do; `None` for a part of the cluster.
    pub const fn grade(self) -> Option<Grade> {
        match self {
            Self::Viewer => Some(Grade::Viewer),
            Self::Operator => Some(Grade::Operator),
            Self::Ctl | Self::DrLead => Some(Grade::DrLead),
            Self::Agent | Self::Router | Self::Writer | Self::Reader | Self::Etcd | Self::Test => {
                None
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// A verified peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// What it is.
    pub role: Role,
    /// Its name.
    pub node: NodeId,
}

impl PeerIdentity {
    /// The URI to put into this peer's certificate.
    pub fn uri(&self) -> String {
        format!("spiffe://{}/{}/{}", self.cluster, self.role.as_str(), self.node)
    }

    /// Reads the identity from the first certificate of a file (PEM) of one's own.
    pub fn from_own_file(path: &std::path::Path) -> Option<Self> {
        Self::from_certificate(&CertificateDer::from_pem_file(path).ok()?)
    }

    /// Reads the identity from a certificate (DER) that was verified.
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_rest, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let mut spiffe = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
            _ => None,
        });
        let (id, None) = (spiffe.next()?, spiffe.next()) else { return None };
        let mut parts = id.split('/');
        let cluster = ClusterId::parse(parts.next()?).ok()?;
        let role = Role::parse(parts.next()?)?;
        let node = NodeId::parse(parts.next()?).ok()?;
        parts.next().is_none().then_some(Self { cluster, role, node })
    }
}

/// The request's peer, as a request extension and as an axum extractor.
#[derive(Debug, Clone)]
pub struct Peer(pub Arc<PeerIdentity>);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        std::future::ready(parts.extensions.get().cloned())
            .await
            .ok_or(Problem::new(Code::PeerForbidden))
    }
}

/// Which peers may pass.
#[derive(Debug, Clone)]
pub struct PeerGuard {
    cluster: ClusterId,
    roles: &'static [Role],
    grade: Option<Grade>,
}

impl PeerGuard {
    /// Peers of this cluster in one of these roles.
    pub fn new(cluster: ClusterId, roles: &'static [Role]) -> Self {
        Self { cluster, roles, grade: None }
    }

    /// And persons of this cluster who have at least this grade.
    #[must_use]
    pub fn and_persons(mut self, grade: Grade) -> Self {
        self.grade = Some(grade);
        self
    }

    /// Refuses a request whose peer is not one of them.
    pub fn check(&self, extensions: &http::Extensions) -> Result<(), Problem> {
        let forbidden = Err(Problem::new(Code::PeerForbidden));
        let Some(peer) = extensions.get::<Peer>().map(|peer| &peer.0) else { return forbidden };
        if peer.cluster != self.cluster {
            return forbidden;
        }
        if self.roles.contains(&peer.role) {
            return Ok(());
        }
        let Some((has, needed)) = peer.role.grade().zip(self.grade) else { return forbidden };
        has.allows(needed).map_err(|code| {
            let (has, needed) = (has.as_str(), needed.as_str());
            Problem::new(code)
                .detail(format!("this needs the role {needed}; the certificate says {has}"))
        })
    }

    /// The routes, closed to all other peers.
    pub fn protect(self, routes: axum::Router) -> axum::Router {
        routes.layer(axum::middleware::from_fn_with_state(self, Self::pass))
    }

    async fn pass(
        axum::extract::State(guard): axum::extract::State<Self>,
        request: Request,
        next: Next,
    ) -> Result<Response, Infallible> {
        match guard.check(request.extensions()) {
            Ok(()) => Ok(next.run(request).await),
            Err(problem) => Ok(problem.into_response()),
        }
    }
}
