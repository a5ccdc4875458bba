//! A farm's certificates as its operator makes them: with `millrace certs`, in a folder of the test's.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use etcd_client::{
    Certificate, Client, ConnectOptions, Identity, Permission, TlsOptions, UserAddOptions,
};
use millrace_testkit::{Etcd, EtcdTls, until_some};

use crate::farm::program;

/// How long an etcd may take until it answers for the first time.
const PATIENCE: Duration = Duration::from_secs(30);

/// The folder.
#[derive(Debug)]
pub struct FarmCerts {
    dir: PathBuf,
}

impl FarmCerts {
    /// Makes an authority in `dir`.
    ///
    /// # Errors
    /// What `millrace certs` says.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let certs = Self { dir: dir.to_owned() };
        certs.run(&["init"])?;
        Ok(certs)
    }

    /// `millrace certs ARGUMENTS` on this folder; what it printed.
    ///
    /// # Errors
    /// What it says.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(program("millrace")?);
        command.arg("certs").args(arguments).arg("--dir").arg(&self.dir);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "certs {arguments:?}: {} {said}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Makes a certificate for `role/name`, or a new one.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn issue(&self, identity: &str, renew: bool) -> anyhow::Result<()> {
        let (role, name) = identity.split_once('/').context("role/name")?;
        match renew {
            true => self.run(&["issue", role, name, "--renew"]).map(drop),
            false => self.issue_at(identity, &[IpAddr::V4(Ipv4Addr::LOCALHOST)]),
        }
    }

    /// Makes a certificate for `role/name`, which others reach at these addresses.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn issue_at(&self, identity: &str, addresses: &[IpAddr]) -> anyhow::Result<()> {
        let (role, name) = identity.split_once('/').context("role/name")?;
        let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        let flags = addresses.iter().flat_map(|address| ["--address", address]);
        let arguments: Vec<&str> = ["issue", role, name].into_iter().chain(flags).collect();
        self.run(&arguments).map(drop)
    }

    /// Certificate and key of `role/name`.
    pub fn pair(&self, identity: &str) -> [PathBuf; 2] {
        let stem = identity.replace('/', "-");
        ["pem", "key"].map(|ending| self.dir.join(format!("{stem}.{ending}")))
    }

    /// What everybody trusts.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The setting of a program that is known by that certificate.
    pub fn farm_tls(&self, identity: &str) -> String {
        let [certificate, key] = self.pair(identity).map(|path| path.display().to_string());
        let ca = self.ca().display().to_string();
        format!("farm_tls = {{ ca = '{ca}', certificate = '{certificate}', key = '{key}' }}")
    }

    /// For a cluster whose members are `etcd/NAME`.
    pub fn etcd_tls(&self, identity: &str) -> EtcdTls {
        let [certificate, key] = self.pair(identity);
        EtcdTls { ca: self.ca(), certificate, key }
    }

    /// A client of the cluster, as whom the certificate says.
    ///
    /// # Errors
    /// When the cluster does not answer it.
    pub async fn etcd_client(&self, etcd: &Etcd, identity: &str) -> anyhow::Result<Client> {
        self.client_of(etcd.endpoints(), identity).await
    }

    /// Which member leads the cluster, if one that answers knows it.
    pub async fn etcd_leader(&self, etcd: &Etcd, identity: &str) -> Option<usize> {
        for (member, endpoint) in etcd.endpoints().into_iter().enumerate() {
            let Ok(mut client) = self.client_of(vec![endpoint], identity).await else { continue };
            let Ok(status) = client.status().await else { continue };
            if status.header()?.member_id() == status.leader() {
                return Some(member);
            }
        }
        None
    }

    async fn client_of(&self, endpoints: Vec<String>, identity: &str) -> anyhow::Result<Client> {
        let [certificate, key] = self.pair(identity);
        let identity = Identity::from_pem(fs::read(certificate)?, fs::read(key)?);
        let ca = Certificate::from_pem(fs::read(self.ca())?);
        let options =
            ConnectOptions::new().with_tls(TlsOptions::new().ca_certificate(ca).identity(identity));
        Ok(Client::connect(endpoints, Some(options)).await?)
    }

    /// Does what `millrace certs rights` prints, as an operator would with etcdctl.
    ///
    /// # Errors
    /// When a line is not understood or etcd refuses it.
    pub async fn grant_rights(&self, etcd: &Etcd, operator: &str) -> anyhow::Result<()> {
        let client = self.etcd_client(etcd, operator).await?;
        until_some("etcd answers", PATIENCE, async || client.clone().status().await.ok()).await?;
        for line in self.run(&["rights"])?.lines().filter(|line| !line.starts_with('#')) {
            etcdctl(&mut client.clone(), line).await.with_context(|| line.to_owned())?;
        }
        Ok(())
    }
}

/// Does one command line of etcdctl.
async fn etcdctl(client: &mut Client, line: &str) -> anyhow::Result<()> {
    let words: Vec<&str> = line.split(' ').collect();
    match &words[..] {
        ["etcdctl", "role", "add", role] => {
            client.role_add(*role).await?;
        }
        ["etcdctl", "role", "grant-permission", role, kind, key, rest @ ..] => {
            let permission = match *kind {
                "read" => Permission::read(*key),
                "readwrite" => Permission::read_write(*key),
                other => bail!("permission {other}"),
            };
            let permission = match rest {
                [] => permission,
                ["--prefix=true"] => permission.with_prefix(),
                other => bail!("{other:?}"),
            };
            client.role_grant_permission(*role, permission).await?;
        }
        ["etcdctl", "user", "add", user, "--no-password"] => {
            client.user_add(*user, "", Some(UserAddOptions::new().with_no_pwd())).await?;
        }
        ["etcdctl", "user", "grant-role", user, role] => {
            client.user_grant_role(*user, *role).await?;
        }
        ["etcdctl", "auth", "enable"] => {
            client.auth_enable().await?;
        }
        _ => bail!("not a command that is known here"),
    }
    Ok(())
}
