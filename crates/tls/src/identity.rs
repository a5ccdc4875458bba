//! Who a certificate is for: a role in the farm and a name, written `role/name` as the common name of its subject. etcd takes
//! the same common name for its user, so that one certificate says one thing everywhere.

use std::{fmt, str::FromStr};

use millrace_types::NodeId;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

/// What a program is in the farm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// `millrace-router`.
    Router,
    /// `millrace-node`.
    Node,
    /// `millrace-origin`.
    Origin,
    /// `millrace-api`.
    Api,
    /// A member of the etcd cluster.
    Etcd,
    /// A person who runs the farm, and their tools.
    Operator,
    /// Prometheus and the like: reads metrics and health.
    Monitor,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Router,
        Self::Node,
        Self::Origin,
        Self::Api,
        Self::Etcd,
        Self::Operator,
        Self::Monitor,
    ];

    /// The word in a certificate.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Node => "node",
            Self::Origin => "origin",
            Self::Api => "api",
            Self::Etcd => "etcd",
            Self::Operator => "operator",
            Self::Monitor => "monitor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let named = Self::ALL.into_iter().find(|role| role.as_str() == text);
        named.ok_or_else(|| IdentityError::Role(text.to_owned()))
    }
}

/// A certificate is for nobody of the farm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No such role.
    #[error("{0:?} is no role of the farm")]
    Role(String),
    /// Not of the form `role/name`.
    #[error("common name {0:?} is not of the form role/name, like node/gpu-3")]
    Form(String),
    /// Not X.509, or its subject has no or several common names.
    #[error("the certificate has not one common name")]
    CommonName,
}

/// A role and a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// What it is.
    pub role: Role,
    /// Which of its kind.
    pub name: NodeId,
}

impl Identity {
    /// Reads the subject of a certificate, in DER. Whether it is genuine is the verifier's business.
    ///
    /// # Errors
    /// [`IdentityError`]
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| IdentityError::CommonName)?;
        let mut names = parsed.subject().iter_common_name();
        match (names.next().map(|name| name.as_str()), names.next()) {
            (Some(Ok(name)), None) => name.parse(),
            _ => Err(IdentityError::CommonName),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Form(text.to_owned());
        let (role, name) = text.split_once('/').ok_or_else(form)?;
        Ok(Self { role: role.parse()?, name: name.parse().map_err(|_| form())? })
    }
}

/// Whom one means to speak to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expected {
    /// What it must be.
    pub role: Role,
    /// Which it must be, where that is known.
    pub name: Option<NodeId>,
}

impl Expected {
    /// Whoever has that role.
    pub const fn any(role: Role) -> Self {
        Self { role, name: None }
    }

    /// Exactly that one.
    pub const fn named(role: Role, name: NodeId) -> Self {
        Self { role, name: Some(name) }
    }

    /// Whether it is whom one means.
    pub fn fits(&self, found: &Identity) -> bool {
        self.role == found.role && self.name.as_ref().is_none_or(|name| *name == found.name)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}/{name}", self.role),
            None => write!(f, "any {}", self.role),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn read(names: &[&str]) -> Result<Identity, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Identity::of_certificate(made.der())
    }

    #[test]
    fn a_certificate_is_for_whom_its_common_name_says() {
        let found = read(&["node/gpu-3"]).unwrap();
        assert_eq!((found.role, found.name.as_str()), (Role::Node, "gpu-3"));
        assert_eq!(found.to_string(), "node/gpu-3");
        let name: NodeId = "gpu-3".parse().unwrap();
        assert!(Expected::any(Role::Node).fits(&found));
        assert!(Expected::named(Role::Node, name.clone()).fits(&found));
        assert!(!Expected::named(Role::Router, name).fits(&found));
        assert!(!Expected::named(Role::Node, "gpu-4".parse().unwrap()).fits(&found));
    }

    #[test]
    fn a_certificate_for_nobody_of_the_farm_is_an_error_that_says_why() {
        assert_eq!(read(&[]), Err(IdentityError::CommonName));
        for (text, why) in [
            ("gpu-3", "of the form role/name"),
            ("node/", "of the form role/name"),
            ("node/a/b", "of the form role/name"),
            ("gpu/3", "\"gpu\" is no role"),
            ("Node/3", "\"Node\" is no role"),
        ] {
            let error = read(&[text]).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(Identity::of_certificate(&vec![1, 2, 3].into()).is_err());
    }
}
