//! `domicile topology check`: every finding of a document at once, with line and remedy.

use crate::cli::TopologyCommand;
use crate::files;
use crate::layout;
use crate::term;
use anyhow::Result;
use domicile_topology::Topology;
use serde_json::json;

/// The command; 0 when the document can be used, warnings or not.
pub(crate) fn run(command: TopologyCommand) -> Result<u8> {
    let TopologyCommand::Check { file, json } = command;
    let checked = Topology::check(&files::read(&file)?);
    let usable = checked.topology.is_some();
    if json {
        term::json(&json!({ "usable": usable, "findings": checked.diagnostics }))?;
        return Ok(u8::from(!usable));
    }
    if !checked.diagnostics.is_empty() {
        term::say(layout::report(&file, &checked.diagnostics))?;
    }
    if let Some(topology) = checked.topology {
        term::say(format_args!(
            "{}: cluster {}, generation {}: {} regions, {} jurisdictions, {} ledger nodes, {} readers; usable",
            file.display(),
            topology.cluster,
            topology.generation,
            topology.regions.len(),
            topology.jurisdictions.len(),
            topology.ledgers.len(),
            topology.readers.len(),
        ))?;
    }
    Ok(u8::from(!usable))
}
