//! Colors of classes, the same in every run, and told apart also by people who see fewer colors.

use super::canvas::Color;

/// The seven hues of Okabe and Ito (Color Universal Design, 2008), which stay apart under every common color blindness;
/// in an order in which neighbours differ in lightness too.
const HUES: [Color; 7] = [
    [86, 180, 233],
    [230, 159, 0],
    [0, 158, 115],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
    [204, 121, 167],
];

/// A color for each class: the hues, then the hues lighter, then darker; then they begin again.
pub fn color(class_id: u32) -> Color {
    let hue = HUES[class_id as usize % HUES.len()];
    let toward = |other: u32, parts: u32| {
        hue.map(|part| ((u32::from(part) * (100 - parts) + other * parts) / 100) as u8)
    };
    match class_id as usize / HUES.len() % 3 {
        0 => hue,
        1 => toward(255, 45),
        _ => toward(0, 40),
    }
}

/// Black or white, whichever is read better on `background`.
pub(super) fn ink(background: Color) -> Color {
    let [red, green, blue] = background.map(u32::from);
    if 299 * red + 587 * green + 114 * blue > 128_000 { [0; 3] } else { [255; 3] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(a: Color, b: Color) -> i32 {
        a.iter().zip(b).map(|(&a, b)| (i32::from(a) - i32::from(b)).abs()).sum()
    }

    #[test]
    fn the_first_twenty_classes_have_colors_of_their_own_and_neighbours_differ() {
        for class in 0..80_u32 {
            let (a, b) = (color(class), color(class + 1));
            assert!(apart(a, b) > 90, "{class}: {a:?} {b:?}");
        }
        for (a, b) in (0..21).flat_map(|a| (0..a).map(move |b| (a, b))) {
            assert!(apart(color(a), color(b)) > 40, "{a} {b}");
        }
        assert_eq!(color(3), color(3 + 21));
    }

    #[test]
    fn a_text_is_read_on_every_color() {
        for class in 0..21 {
            assert!(apart(ink(color(class)), color(class)) > 250, "{class}");
        }
    }
}
