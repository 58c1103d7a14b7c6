//! Stands in for two types of the decision core until its branch is merged.
#![allow(missing_docs, reason = "goes away with the merge")]

#[derive(Clone, Debug)]
pub struct Record;
#[derive(Clone, Copy, Debug)]
pub struct Policy;
