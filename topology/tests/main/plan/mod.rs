//! Plans: from situations to steps or refusals, and the rules every plan keeps.

mod moves;
mod situation;
