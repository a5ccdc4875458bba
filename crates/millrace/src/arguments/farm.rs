//! The command line of `millrace farm`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `millrace farm …`
#[derive(Debug, Args)]
pub struct FarmCommandArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: FarmCommand,
}

/// What to do with a farm on this host.
#[derive(Debug, Subcommand)]
pub enum FarmCommand {
    /// Start all programs and an etcd of three members on this machine, print a drill, and run until Ctrl-C.
    ///
    /// As root each program gets a host of its own, a network namespace with an address of a private subnet that is free here,
    /// and can be cut off from others (`millrace farm cut`). Else, or where that cannot be had, they are at addresses of
    /// 127.0.0.0/8, and partition drills are off.
    ///
    /// What dies is started again after 5 s. Nothing outlives it but, after a failure, the logs.
    Up(FarmUpArguments),
    /// Cut a host of the running small farm off from others, or from all; packets between them are lost, and nobody is told.
    Cut(FarmCutArguments),
    /// End cuts: all, all of a host, or those between it and others.
    Heal(FarmHealArguments),
}

/// Where the programs of the small farm are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Addresses {
    /// At addresses of 127.0.0.0/8.
    Loopback,
    /// Each in a network namespace of its own.
    Namespaces,
}

/// `millrace farm up`
#[derive(Clone, Debug, Args)]
pub struct FarmUpArguments {
    /// Routers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub routers: u8,
    /// Nodes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,
    /// Origins.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub origins: u8,
    /// The etcd to run; default the one on the PATH.
    #[arg(long, value_name = "FILE")]
    pub etcd: Option<PathBuf>,
    /// Where the programs are; default namespaces as root, if they can be had, else loopback. When given, nothing else will do.
    #[arg(long, value_enum)]
    pub addresses: Option<Addresses>,
    /// Loopback, with this second number of all addresses, 127.N.y.z, so that two such farms fit on one host [default: 0].
    #[arg(long, value_name = "N")]
    pub subnet: Option<u8>,
    /// Written once the farm can take a publisher: addresses, stream key and process ids as JSON.
    #[arg(long, value_name = "FILE")]
    pub ready_json: Option<PathBuf>,
}

/// `millrace farm cut HOST [OTHER]…`
#[derive(Debug, Args)]
pub struct FarmCutArguments {
    /// Which, called as its program: node-1, etcd-3.
    pub host: String,
    /// From whom; `outside` is this machine itself. Without any its cable is pulled.
    pub others: Vec<String>,
    /// Only what HOST sends is lost.
    #[arg(long, requires = "others")]
    pub one_way: bool,
    /// The farm's folder; needed when more than one runs.
    #[arg(long, value_name = "DIR")]
    pub farm: Option<PathBuf>,
}

/// `millrace farm heal [HOST [OTHER]…]`
#[derive(Debug, Args)]
pub struct FarmHealArguments {
    /// Which; without it all.
    pub host: Option<String>,
    /// From whom it was cut off; without any, all, and its cable is plugged in.
    pub others: Vec<String>,
    /// The farm's folder; needed when more than one runs.
    #[arg(long, value_name = "DIR")]
    pub farm: Option<PathBuf>,
}

impl FarmUpArguments {
    /// Where the programs are to be, if somebody has said so.
    pub fn place(&self) -> Option<Addresses> {
        self.addresses.or(self.subnet.map(|_| Addresses::Loopback))
    }
}
