//! Tests of the wire schema.
