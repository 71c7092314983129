//! Plans: from situations to steps or refusals, and the rules every plan keeps.

mod lint;
mod moves;
mod redundancy;
mod reference;
mod situation;
mod transitions;
