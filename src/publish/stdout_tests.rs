//! Tests of how stdout is cut into writes. Whole outputs are tested in tests/publish_stdout.rs.

use super::*;

#[test]
fn a_piece_ends_with_a_whole_line_where_one_fits() {
    assert_eq!(whole_lines(b"short\nline\n"), b"short\nline\n");
    let mut pending = vec![b'x'; 3000];
    pending.push(b'\n');
    let first_bytes = pending.len();
    pending.extend_from_slice(&[b'y'; 3000]);
    assert_eq!(whole_lines(&pending).len(), first_bytes);
    assert_eq!(whole_lines(&vec![b'z'; 10_000]).len(), PIPE_BUF, "a longer line goes in pieces");
}
