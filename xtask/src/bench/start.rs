//! From starting `par up` to its first line, which says that it serves.

use serde::Serialize;

use super::extent::Extent;
use super::peers::supervisor::Supervisor;
use super::progress;
use super::statistics::Spread;
use super::workshop::Workshop;

#[derive(Serialize)]
pub(crate) struct Starts {
    /// With an empty state folder.
    pub(crate) first: Spread,
    /// With the folder of an earlier one.
    pub(crate) again: Spread,
}

pub(crate) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Starts> {
    progress("start of the supervisor")?;
    let (mut first, mut again) = (vec![], vec![]);
    for _ in 0..extent.starts {
        let home = workshop.room()?;
        for times in [&mut first, &mut again] {
            let supervisor = Supervisor::start(&workshop.par, &home).await?;
            times.push(supervisor.started_in);
        }
    }
    Ok(Starts {
        first: Spread::of(&first),
        again: Spread::of(&again),
    })
}
