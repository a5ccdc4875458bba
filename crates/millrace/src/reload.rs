//! SIGHUP: limits, log filter and certificates as the file says now. What cannot be used changes nothing.

use millrace_registry::OwnSettings;
use millrace_telemetry::{InForce, set_log_filter};
use tracing::{info, warn};

use crate::{
    arguments::StandaloneArguments,
    settings::Sections,
    standalone::{Farm, settings},
};

/// Those that the file may change while standalone runs, a program's behind its section.
pub fn in_force(sections: &Sections) -> InForce {
    let of = |section: &'static str, keys: &[&str]| {
        keys.iter().map(move |key| format!("{section}.{key}")).collect::<Vec<_>>()
    };
    let keys = [
        vec!["log".to_owned()],
        of("router", millrace_router::Config::RELOADED),
        of("node", millrace_node::Config::RELOADED),
        of("origin", millrace_origin::Config::RELOADED),
        of("api", millrace_api::Config::RELOADED),
    ];
    InForce::new(sections, keys.concat())
}

impl Farm {
    /// Reads the settings again and puts in force what can change while streams are live.
    pub async fn reload(&self, arguments: &StandaloneArguments) {
        let settings = match settings(arguments) {
            Ok((settings, _)) => settings,
            Err(error) => return warn!(%error, "settings not reloaded"),
        };
        let sections = &settings.sections;
        self.in_force.warn_of_others(sections);
        if let Err(error) = set_log_filter(&sections.log) {
            warn!(%error, "log filter not reloaded");
        }
        if let Err(error) = self.router.reload(&sections.router).await {
            warn!(%error, "router's certificate not reloaded");
        }
        if let Err(error) = self.origin.reload(&sections.origin) {
            warn!(%error, "origin's certificate not reloaded");
        }
        if let Err(error) = self.api.reload() {
            warn!(%error, "api's certificate not reloaded");
        }
        info!(log = sections.log.as_str(), "settings reloaded");
    }
}
