//! SIGHUP: limits, log filter and certificates as the file says now. What cannot be used changes nothing.

use millrace_telemetry::set_log_filter;
use tracing::{info, warn};

use crate::{arguments::StandaloneArguments, settings::Settings, standalone::Farm};

impl Farm {
    /// Reads the settings again and puts in force what can change while streams are live.
    pub async fn reload(&self, arguments: &StandaloneArguments) {
        let mut settings = match Settings::load(arguments.config.as_deref()) {
            Ok(settings) => settings,
            Err(error) => return warn!(%error, "settings not reloaded"),
        };
        settings.log(arguments.log.as_ref());
        let sections = &settings.sections;
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
