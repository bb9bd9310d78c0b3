//! `synod demo`: a story told by a real group.

pub mod comparison;
