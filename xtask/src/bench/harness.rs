//! The Python side alone, against a bare loop on a socketpair: `python/bench_harness.py` measures, this reads.

use std::ffi::OsStr;

use anyhow::ensure;
use serde::Serialize;

use super::extent::Extent;
use super::process::output_of;
use super::progress;
use super::workshop::Workshop;

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Frames {
    pub(crate) in_flight: usize,
    /// `bare loop`, `sync` or `async`.
    pub(crate) peer: String,
    pub(crate) per_second: f64,
    pub(crate) of_bare_loop: f64,
}

pub(crate) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Vec<Frames>> {
    progress("the harness alone")?;
    let program = workshop.root.join("python").join("bench_harness.py");
    let seconds = extent.round.as_secs_f64().to_string();
    let said = output_of("python3", &[program.as_os_str(), OsStr::new(&seconds)]).await?;
    let frames: Vec<Frames> = said.lines().filter_map(frames_of).collect();
    ensure!(!frames.is_empty(), "it said no figure:\n{said}");
    Ok(frames)
}

/// Reads a line such as ` 64 in flight  sync  101,234/s   82% of the bare loop`.
fn frames_of(line: &str) -> Option<Frames> {
    let (in_flight, rest) = line.split_once(" in flight ")?;
    let (rest, of_bare_loop) = rest.strip_suffix("% of the bare loop")?.rsplit_once("/s")?;
    let (peer, per_second) = rest.trim().rsplit_once(' ')?;
    let of_bare_loop: f64 = of_bare_loop.trim().parse().ok()?;
    Some(Frames {
        in_flight: in_flight.trim().parse().ok()?,
        peer: peer.trim().to_owned(),
        per_second: per_second.replace(',', "").parse().ok()?,
        of_bare_loop: of_bare_loop / 100.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_figures_is_read_and_others_are_not() {
        let read = frames_of("  1 in flight  bare loop     43,210/s  100% of the bare loop");
        let expected = Frames {
            in_flight: 1,
            peer: "bare loop".to_owned(),
            per_second: 43210.0,
            of_bare_loop: 1.0,
        };
        assert_eq!(read, Some(expected));
        assert_eq!(frames_of("ready after 31.1 ms"), None);
    }
}
