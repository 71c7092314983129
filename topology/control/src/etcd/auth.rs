//! etcd's users and what they may do, with the messages for it; field numbers follow its published `rpc.proto`.
//!
//! No user has a password: who somebody is says the common name of their certificate.

use super::Etcd;
use super::endpoints::{Attempts, Method, method};
use crate::error::Error;
use prost::Message;

const AUTHENTICATE: Method = method("authenticate", "/etcdserverpb.Auth/Authenticate");
const ENABLE: Method = method("auth-enable", "/etcdserverpb.Auth/AuthEnable");
const USER_ADD: Method = method("user-add", "/etcdserverpb.Auth/UserAdd");
const USER_DELETE: Method = method("user-delete", "/etcdserverpb.Auth/UserDelete");
const USER_GET: Method = method("user-get", "/etcdserverpb.Auth/UserGet");
const USER_LIST: Method = method("user-list", "/etcdserverpb.Auth/UserList");
const USER_GRANT: Method = method("user-grant", "/etcdserverpb.Auth/UserGrantRole");
const ROLE_ADD: Method = method("role-add", "/etcdserverpb.Auth/RoleAdd");
const ROLE_DELETE: Method = method("role-delete", "/etcdserverpb.Auth/RoleDelete");
const ROLE_GET: Method = method("role-get", "/etcdserverpb.Auth/RoleGet");
const ROLE_LIST: Method = method("role-list", "/etcdserverpb.Auth/RoleList");
const ROLE_GRANT: Method = method("role-grant", "/etcdserverpb.Auth/RoleGrantPermission");
const ROLE_REVOKE: Method = method("role-revoke", "/etcdserverpb.Auth/RoleRevokePermission");

/// What etcd says of requests about users' passwords while nobody is asked who they are.
const NOT_ENABLED: &str = "authentication is not enabled";

/// `Permission.Type.READ`.
pub(crate) const PERMIT_READ: i32 = 0;
/// `Permission.Type.WRITE`.
pub(crate) const PERMIT_WRITE: i32 = 1;

/// Permission for a key, or for all from it up to another.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Permission {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) range_end: Vec<u8>,
}

/// Any request that says no more than a user's or a role's name, or nothing.
#[derive(Clone, PartialEq, Eq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct UserAddRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "3")]
    options: Option<UserAddOptions>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct UserAddOptions {
    #[prost(bool, tag = "1")]
    no_password: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct UserGrantRequest {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    role: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RoleGrantRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    permission: Option<Permission>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RoleRevokeRequest {
    #[prost(string, tag = "1")]
    role: String,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    range_end: Vec<u8>,
}

/// An answer that is a list of users or roles.
#[derive(Clone, PartialEq, Eq, Message)]
struct Names {
    #[prost(string, repeated, tag = "2")]
    names: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RoleGetResponse {
    #[prost(message, repeated, tag = "2")]
    permissions: Vec<Permission>,
}

/// An answer of which nobody reads more than that it came.
#[derive(Clone, PartialEq, Eq, Message)]
struct Done {}

impl Etcd {
    /// Whether etcd asks who somebody is. Anybody may know that: nobody is logged in by asking.
    pub(crate) async fn auth_enabled(&self) -> Result<bool, Error> {
        let nobody = Named { name: String::new() };
        let answer: Result<Done, Error> =
            self.0.call(AUTHENTICATE, nobody, Attempts::Repeatable).await;
        match answer {
            Err(Error::Refused { cause, .. }) => Ok(!cause.contains(NOT_ENABLED)),
            Err(error) => Err(error),
            Ok(Done {}) => Ok(true),
        }
    }

    /// From now on, who somebody is decides what they may do; for root only.
    pub(crate) async fn auth_enable(&self) -> Result<(), Error> {
        self.0.call(ENABLE, Done {}, Attempts::Once).await.map(|Done {}| ())
    }

    /// Every user.
    pub(crate) async fn users(&self) -> Result<Vec<String>, Error> {
        let answer: Names = self.0.call(USER_LIST, Done {}, Attempts::Repeatable).await?;
        Ok(answer.names)
    }

    /// The roles a user has.
    pub(crate) async fn roles_of(&self, user: &str) -> Result<Vec<String>, Error> {
        let request = Named { name: user.to_owned() };
        let answer: Names = self.0.call(USER_GET, request, Attempts::Repeatable).await?;
        Ok(answer.names)
    }

    /// Makes a user who has no password.
    pub(crate) async fn add_user(&self, name: &str) -> Result<(), Error> {
        let options = Some(UserAddOptions { no_password: true });
        let request = UserAddRequest { name: name.to_owned(), options };
        self.0.call(USER_ADD, request, Attempts::Once).await.map(|Done {}| ())
    }

    /// Removes a user.
    pub(crate) async fn delete_user(&self, name: &str) -> Result<(), Error> {
        let request = Named { name: name.to_owned() };
        self.0.call(USER_DELETE, request, Attempts::Once).await.map(|Done {}| ())
    }

    /// Gives a user a role.
    pub(crate) async fn grant_role(&self, user: &str, role: &str) -> Result<(), Error> {
        let request = UserGrantRequest { user: user.to_owned(), role: role.to_owned() };
        self.0.call(USER_GRANT, request, Attempts::Once).await.map(|Done {}| ())
    }

    /// Every role.
    pub(crate) async fn roles(&self) -> Result<Vec<String>, Error> {
        let answer: Names = self.0.call(ROLE_LIST, Done {}, Attempts::Repeatable).await?;
        Ok(answer.names)
    }

    /// What a role permits.
    pub(crate) async fn permissions(&self, role: &str) -> Result<Vec<Permission>, Error> {
        let request = Named { name: role.to_owned() };
        let answer: RoleGetResponse = self.0.call(ROLE_GET, request, Attempts::Repeatable).await?;
        Ok(answer.permissions)
    }

    /// Makes a role that permits nothing.
    pub(crate) async fn add_role(&self, name: &str) -> Result<(), Error> {
        let request = Named { name: name.to_owned() };
        self.0.call(ROLE_ADD, request, Attempts::Once).await.map(|Done {}| ())
    }

    /// Removes a role.
    pub(crate) async fn delete_role(&self, name: &str) -> Result<(), Error> {
        let request = Named { name: name.to_owned() };
        self.0.call(ROLE_DELETE, request, Attempts::Once).await.map(|Done {}| ())
    }

    /// Lets a role do something.
    pub(crate) async fn permit(&self, role: &str, permission: Permission) -> Result<(), Error> {
        let request = RoleGrantRequest { name: role.to_owned(), permission: Some(permission) };
        self.0.call(ROLE_GRANT, request, Attempts::Once).await.map(|Done {}| ())
    }

    /// Lets a role do it no longer.
    pub(crate) async fn forbid(&self, role: &str, permission: Permission) -> Result<(), Error> {
        let Permission { key, range_end, .. } = permission;
        let request = RoleRevokeRequest { role: role.to_owned(), key, range_end };
        self.0.call(ROLE_REVOKE, request, Attempts::Once).await.map(|Done {}| ())
    }
}
