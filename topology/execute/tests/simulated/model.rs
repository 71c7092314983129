//! The protocol's model, the very files that `topology/tests/protocol` checks.

#[path = "../../../tests/protocol/design.rs"]
pub(crate) mod design;
#[path = "../../../tests/protocol/steps.rs"]
pub(crate) mod steps;
#[path = "../../../tests/protocol/world.rs"]
pub(crate) mod world;
