//! Mutual TLS and rights by the certificate's common name: a program writes what it may, and nothing else.

use std::{fs, net::IpAddr, path::Path};

use etcd_client::{Certificate, ConnectOptions, Identity, Permission, TlsOptions};
use millrace_registry::{NodeRecord, Registry, RegistryConfig, RegistryError};
use millrace_testkit::{Etcd, EtcdHost, EtcdTls, EtcdVersion, Scratch, until, until_some};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};

use crate::registry::{PATIENCE, channel, node, shows};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(dir: &Path) -> anyhow::Result<Authority> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "farm");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(dir.join("ca.pem"), authority.pem())?;
    Ok(authority)
}

/// Writes `NAME.pem` and `NAME.key`.
fn issue(dir: &Path, authority: &Authority, name: &str) -> anyhow::Result<()> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::IpAddress(IpAddr::from([127, 0, 0, 1]))];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    fs::write(dir.join(format!("{name}.pem")), params.signed_by(&key, authority)?.pem())?;
    Ok(fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?)
}

/// A node may write nodes, and read everything.
async fn grant_rights(etcd: &Etcd, dir: &Path) -> anyhow::Result<()> {
    let identity =
        Identity::from_pem(fs::read(dir.join("root.pem"))?, fs::read(dir.join("root.key"))?);
    let ca = Certificate::from_pem(fs::read(dir.join("ca.pem"))?);
    let tls = TlsOptions::new().ca_certificate(ca).identity(identity);
    let options = ConnectOptions::new().with_tls(tls);
    let mut root = etcd_client::Client::connect(etcd.endpoints(), Some(options)).await?;
    until_some("an answer", PATIENCE, async || root.status().await.ok()).await?;
    let nobody = || etcd_client::UserAddOptions::new().with_no_pwd();
    root.role_add("root").await?;
    root.user_add("root", "", Some(nobody())).await?;
    root.user_grant_role("root", "root").await?;
    root.role_add("node").await?;
    root.role_grant_permission("node", Permission::read("/millrace/v1/").with_prefix()).await?;
    let nodes = Permission::read_write("/millrace/v1/nodes/").with_prefix();
    root.role_grant_permission("node", nodes).await?;
    root.user_add("node", "", Some(nobody())).await?;
    root.user_grant_role("node", "node").await?;
    root.auth_enable().await?;
    Ok(())
}

#[tokio::test]
async fn a_certificate_decides_who_may_write_what() -> anyhow::Result<()> {
    let (newest, system) = (EtcdVersion::V3_7, EtcdVersion::System);
    tokio::try_join!(rights_in(newest), rights_in(system)).map(|_| ())
}

async fn rights_in(version: EtcdVersion) -> anyhow::Result<()> {
    let scratch = Scratch::new("etcd-tls")?;
    let dir = scratch.path();
    let authority_ = authority(dir)?;
    for name in ["server", "root", "node"] {
        issue(dir, &authority_, name)?;
    }
    let tls = EtcdTls {
        ca: dir.join("ca.pem"),
        certificate: dir.join("server.pem"),
        key: dir.join("server.key"),
    };
    let etcd = Etcd::start_with(version, vec![EtcdHost::here()], Some(tls))?;
    grant_rights(&etcd, dir).await?;
    let config = |name: Option<&str>| RegistryConfig {
        endpoints: etcd.endpoints(),
        ca: Some(dir.join("ca.pem")),
        certificate: name.map(|name| dir.join(format!("{name}.pem"))),
        key: name.map(|name| dir.join(format!("{name}.key"))),
        ..RegistryConfig::default()
    };
    let (of_node, of_root) =
        (Registry::connect(&config(Some("node")))?, Registry::connect(&config(Some("root")))?);
    let kept = of_node.keep(&node("n", 1));
    assert!(kept.written(PATIENCE).await, "see {:?}", etcd.log_dir());
    shows(&of_root, "n", Some(1), PATIENCE).await?;
    let refused = of_node.put(&channel("not-its-own")).await;
    assert!(matches!(refused, Err(RegistryError::Unavailable { .. })), "{refused:?}");
    assert!(refused.is_err_and(|error| error.to_string().contains("permission denied")));
    of_root.put(&channel("its-own")).await?;
    let stranger = Registry::connect(&config(None))?;
    let seen = until("a stranger's view", std::time::Duration::from_secs(3), || {
        stranger.is_reachable() || !stranger.list::<NodeRecord>().is_empty()
    });
    assert!(seen.await.is_err(), "without a certificate nothing is to be seen");
    Ok(())
}
