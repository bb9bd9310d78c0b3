//! Everything that is tested from the outside, in one binary: it is linked once.

mod layers;
