//! What the key space promises, as tables, golden stories and comparisons with naive models.

mod tree;
