//! Tests of the stdout writer.
