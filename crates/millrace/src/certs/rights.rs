//! What each certificate may do in the registry, as etcdctl commands: everybody reads, and writes what is its own. A stolen
//! certificate of a node is good for that node's record and no other.

use std::fmt::Write as _;

use millrace_tls::{Identity, Role};

use super::{
    arguments::RightsArguments,
    show::{Found, of_folder, pem_certificates},
};
use crate::prerequisite::Prerequisite;

/// Prints the commands for the certificates of a folder.
///
/// # Errors
/// The folder or a certificate cannot be read, or there is none with rights.
pub fn print(wanted: &RightsArguments) -> anyhow::Result<()> {
    let mut identities = Vec::new();
    for file in of_folder(&wanted.dir)? {
        let all = pem_certificates(&file)?;
        let first = all.first().map(Found::of).transpose()?;
        identities.extend(first.filter(|it| !it.is_authority).and_then(|it| it.identity()));
    }
    identities.sort();
    let prefix = &wanted.prefix;
    if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['\'', '"', ' ']) {
        return Err(
            Prerequisite(format!("--prefix {prefix:?} is no prefix such as /millrace/v1")).into()
        );
    }
    if !identities.iter().any(|identity| identity.role == Role::Operator) {
        let why = "no operator has a certificate: with rights in force nobody could change them; \
                   `millrace certs issue operator NAME` first";
        return Err(Prerequisite(why.to_owned()).into());
    }
    crate::output::print(format_args!("{}", commands(&identities, prefix)));
    Ok(())
}

fn commands(identities: &[Identity], prefix: &str) -> String {
    let mut text =
        "# Run by an operator. What is there already is left as it is, and said to be an error.\n\
                    etcdctl role add root\n\
                    etcdctl user add root --no-password\n\
                    etcdctl user grant-role root root\n"
            .to_owned();
    for identity in identities {
        let grants = grants(identity, prefix);
        let role = match (identity.role, grants.is_empty()) {
            (Role::Operator, _) => "root".to_owned(),
            (_, true) => continue,
            (_, false) => identity.to_string(),
        };
        if identity.role != Role::Operator {
            let _ = writeln!(text, "etcdctl role add {role}");
            for grant in grants {
                let _ = writeln!(text, "etcdctl role grant-permission {role} {grant}");
            }
        }
        let _ = writeln!(text, "etcdctl user add {identity} --no-password");
        let _ = writeln!(text, "etcdctl user grant-role {identity} {role}");
    }
    text += "etcdctl auth enable\n";
    text
}

/// What a program may read and write. `operator` is etcd's root; `etcd` and `monitor` are no users.
fn grants(identity: &Identity, prefix: &str) -> Vec<String> {
    let own = |folder: &str| format!("readwrite {prefix}/{folder}/{}", identity.name);
    let all = |folder: &str| format!("readwrite {prefix}/{folder}/ --prefix=true");
    let mut grants = match identity.role {
        Role::Node => vec![own("nodes")],
        Role::Router => vec![own("routers"), all("streams")],
        Role::Origin => vec![own("origins")],
        Role::Api => vec![all("channels"), all("orders"), all("moves")],
        Role::Etcd | Role::Operator | Role::Monitor => return Vec::new(),
    };
    grants.insert(0, format!("read {prefix}/ --prefix=true"));
    grants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_writes_its_own_record_and_no_other() {
        let node = "node/gpu-3".parse().unwrap();
        let expected = ["read /f/ --prefix=true", "readwrite /f/nodes/gpu-3"];
        assert_eq!(grants(&node, "/f"), expected);
        let text = commands(&[node, "operator/ann".parse().unwrap()], "/f");
        assert!(
            text.contains("\netcdctl role grant-permission node/gpu-3 readwrite /f/nodes/gpu-3\n")
        );
        assert!(text.contains("\netcdctl user grant-role operator/ann root\n"), "{text}");
        assert!(text.ends_with("etcdctl auth enable\n"));
    }
}
