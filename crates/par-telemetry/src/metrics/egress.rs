//! What went through egress proxies, of one or of many.

use std::collections::BTreeMap;

use super::page::{Kind, Page};

/// One proxy's figures.
#[derive(Clone, Copy, Debug)]
pub struct Egress<'a> {
    /// Says whose they are, where there are several.
    pub agent: Option<&'a str>,
    pub connections: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// By the rule that refused them.
    pub refused: &'a BTreeMap<String, u64>,
}

impl Egress<'_> {
    fn labels(&self) -> Vec<(&str, &str)> {
        self.agent
            .map(|agent| ("agent", agent))
            .into_iter()
            .collect()
    }
}

pub fn write_egress(page: &mut Page, all: &[Egress<'_>]) {
    let help = "Tunnels and requests that the egress proxy let through.";
    of_each(page, all, "par_egress_connections", help, |it| {
        it.connections
    });
    let help = "Bytes that an agent sent through the egress proxy.";
    of_each(page, all, "par_egress_sent_bytes", help, |it| it.sent_bytes);
    let help = "Bytes that an agent received through the egress proxy.";
    of_each(page, all, "par_egress_received_bytes", help, |it| {
        it.received_bytes
    });
    let help = "What the egress proxy did not let through, by the rule that refused it.";
    let mut family = page.family(Kind::Counter, "par_egress_refused", help);
    for one in all {
        for (rule, count) in one.refused {
            let mut labels = one.labels();
            labels.push(("rule", rule));
            family.sample(&labels, *count);
        }
    }
}

fn of_each(
    page: &mut Page,
    all: &[Egress<'_>],
    name: &'static str,
    help: &'static str,
    figure: impl Fn(&Egress<'_>) -> u64,
) {
    let mut family = page.family(Kind::Counter, name, help);
    for one in all {
        family.sample(&one.labels(), figure(one));
    }
}
