//! The metrics of a program under test, as its admin port said them at one moment.

use std::net::SocketAddr;

use crate::Connection;

/// One answer of `/metrics`.
#[derive(Clone, Debug)]
pub struct Scrape(String);

impl Scrape {
    /// Asks the admin port at `address`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn of(address: SocketAddr) -> anyhow::Result<Self> {
        let body = Connection::open(address)?.get("/metrics")?.body;
        Ok(Self(String::from_utf8(body)?))
    }

    /// The value of one metric, by its name with labels.
    pub fn value(&self, name: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line?.parse().ok()
    }

    /// The sum over all labels of a metric; 0 when nothing was counted yet.
    pub fn sum(&self, name: &str) -> f64 {
        let labelled = |line: &str| {
            line.strip_prefix(name)?.strip_prefix('{')?.split("} ").nth(1)?.parse::<f64>().ok()
        };
        self.0.lines().filter_map(labelled).fold(0.0, std::ops::Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name_and_summed_over_its_labels() {
        let scrape = Scrape(
            "# TYPE a_total counter\na_total{r=\"x\"} 2\na_total{r=\"y\"} 3\na 7\n".to_owned(),
        );
        assert_eq!(scrape.value("a_total{r=\"y\"}"), Some(3.0));
        assert_eq!((scrape.value("a"), scrape.value("a_total")), (Some(7.0), None));
        assert_eq!((scrape.sum("a_total"), scrape.sum("b_total")), (5.0, 0.0));
    }
}
