//! The topology document as its users meet it.

mod document;
