//! The command line of `millrace certs`.

use std::path::PathBuf;

use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use millrace_tls::Role;
use millrace_types::NodeId;

/// `millrace certs …`
#[derive(Debug, Args)]
pub struct CertsArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: CertsCommand,
}

/// What to do about certificates.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make an authority: ca.pem, which every program gets, and ca.key, which stays here.
    Init(InitArguments),
    /// Make a key and a certificate for one program, etcd member or person: ROLE-NAME.pem and ROLE-NAME.key.
    Issue(IssueArguments),
    /// Say whom certificates are for and until when.
    Show(ShowArguments),
    /// Print the etcdctl commands that give each certificate of the folder its rights in the registry.
    Rights(RightsArguments),
}

/// `millrace certs init`
#[derive(Debug, Args)]
pub struct InitArguments {
    /// Where the authority is kept.
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub dir: PathBuf,
    /// The farm's name, for people who look at certificates.
    #[arg(long, default_value = "millrace")]
    pub farm: String,
    /// For how many days it is valid.
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
    /// Put a new authority in the place of the one there is. ca.pem then names both, until every certificate is renewed.
    #[arg(long)]
    pub replace: bool,
}

/// `millrace certs issue ROLE NAME`
#[derive(Debug, Args)]
pub struct IssueArguments {
    /// Whose it is; a monitor reads metrics and health.
    #[arg(value_parser = roles())]
    pub role: Role,
    /// The program's `name` in its settings; a person's or an etcd member's own.
    pub name: NodeId,
    /// An address or host name by which others reach it; may be given more than once. etcd needs it, programs do not.
    #[arg(long = "address", value_name = "HOST")]
    pub addresses: Vec<String>,
    /// For how many days it is valid.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Put a new key and certificate in the place of those there are; without --address for the same addresses.
    #[arg(long)]
    pub renew: bool,
    /// Where the authority is, and where the files go.
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub dir: PathBuf,
}

/// Any role, all of them named where one is wrong.
fn roles() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|role| role.parse::<Role>())
}

/// `millrace certs show [FILE]…`
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// Certificates; without any, all of the folder.
    pub files: Vec<PathBuf>,
    /// The folder.
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub dir: PathBuf,
    /// JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// `millrace certs rights`
#[derive(Debug, Args)]
pub struct RightsArguments {
    /// The folder of the certificates.
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub dir: PathBuf,
    /// What every key of the farm's registry begins with, `prefix` in `[registry]`.
    #[arg(long, value_name = "PREFIX", default_value = "/millrace/v1")]
    pub prefix: String,
}
