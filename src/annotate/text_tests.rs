//! Letters of many scripts, really drawn.

use super::fonts::{Fonts, Language};
use super::text::Typesetter;

/// The fonts of this machine, or `None` with a loud word where they lack a character.
fn typesetter(characters: &str) -> Option<Typesetter> {
    let mut typesetter = Typesetter::new(Fonts::of_system(Language::default()));
    typesetter.set_size(24.0);
    if let Some(missing) = typesetter.missing([characters].into_iter()) {
        eprintln!("NOT TESTED: {missing}");
        return None;
    }
    Some(typesetter)
}

fn ink(typesetter: &mut Typesetter, text: &str) -> (usize, Vec<u8>) {
    let ink = typesetter.ink(text);
    assert_eq!(ink.cover.len(), ink.width * typesetter.line_height());
    (ink.width, ink.cover.clone())
}

fn amount(cover: &[u8]) -> u32 {
    cover.iter().map(|&cover| u32::from(cover)).sum::<u32>() / 255
}

#[test]
fn every_script_has_letters_of_its_own_and_none_is_a_box() {
    for (script, one, other) in [
        ("Latin", "person", "bicycle"),
        ("Cyrillic", "человек", "велосипед"),
        ("Greek", "άνθρωπος", "ποδήλατο"),
        ("Han", "行人", "汽车"),
        ("Hiragana", "ひと", "くるま"),
        ("Hangul", "사람", "자동차"),
        ("Hebrew", "אדם", "מכונית"),
        ("Arabic", "شخص", "سيارة"),
        ("Devanagari", "व्यक्ति", "साइकिल"),
    ] {
        let Some(mut typesetter) = typesetter(&format!("{one}{other}")) else { continue };
        let unknown = ink(&mut typesetter, "\u{10ffff}").1;
        let (first, second) = (ink(&mut typesetter, one), ink(&mut typesetter, other));
        assert_ne!(first, second, "{script}");
        for (_, cover) in [&first, &second] {
            assert!(amount(cover) > 100, "{script}: hardly any ink: {}", amount(cover));
            assert_ne!(cover, &unknown, "{script}");
            let edges = cover.iter().filter(|&&cover| (20..235).contains(&cover)).count();
            assert!(edges > 20, "{script}: no smooth edges");
        }
    }
}

#[test]
fn arabic_letters_join_and_run_from_right_to_left() {
    let Some(mut typesetter) = typesetter("شخصسيارة") else { return };
    // Joined letters are narrower than the same letters kept apart by a character without width.
    let joined = ink(&mut typesetter, "سيارة").0;
    let apart = ink(&mut typesetter, "س\u{200c}ي\u{200c}ا\u{200c}ر\u{200c}ة").0;
    assert!(joined < apart, "{joined} {apart}");
    // The first letter is at the right: two texts that begin alike end alike in ink.
    let (one, other) = (ink(&mut typesetter, "شخص"), ink(&mut typesetter, "شخصر"));
    let height = typesetter.line_height();
    let columns = one.0.min(other.0) / 2;
    let part = |(width, cover): &(usize, Vec<u8>), from: usize| -> Vec<u8> {
        (0..height).flat_map(|row| cover[row * width + from..row * width + from + columns].to_vec()).collect()
    };
    let apart = |one: Vec<u8>, other: Vec<u8>| -> u32 {
        one.iter().zip(other).map(|(&one, other)| u32::from(one.abs_diff(other))).sum()
    };
    let at_right = apart(part(&one, one.0 - columns), part(&other, other.0 - columns));
    let at_left = apart(part(&one, 0), part(&other, 0));
    assert!(at_right * 3 < at_left * 2, "{at_right} {at_left}");
}

#[test]
fn mixed_directions_keep_their_own() {
    let Some(mut typesetter) = typesetter("אדםabc") else { return };
    // The Latin part leads to the right, the Hebrew one behind it is turned.
    let mixed = ink(&mut typesetter, "abc אדם").0;
    let parts = ink(&mut typesetter, "abc ").0 + ink(&mut typesetter, "אדם").0;
    assert!(mixed.abs_diff(parts) <= 4, "{mixed} {parts}");
}

#[test]
fn conjuncts_of_devanagari_are_formed() {
    let Some(mut typesetter) = typesetter("व्यक्ति") else { return };
    let formed = ink(&mut typesetter, "क्ति").0;
    let apart = ink(&mut typesetter, "क").0 + ink(&mut typesetter, "ति").0;
    assert!(formed < apart, "{formed} {apart}");
}

#[test]
fn what_no_font_has_is_named_with_the_package_that_has_it() {
    let nothing = || Typesetter::new(Fonts::of_folders(&[], Language::default()));
    let missing = nothing().missing(["行人 person", "человек"].into_iter()).unwrap();
    assert_eq!(
        (missing.count, missing.packages.as_slice()),
        (8, &["fonts-dejavu-core", "fonts-noto-cjk"][..])
    );
    let sentence = missing.to_string();
    assert!(
        sentence.contains("人") && sentence.contains("install") && sentence.contains("fonts-noto-cjk"),
        "{sentence}"
    );
    assert_eq!(nothing().missing(["person 0.9"].into_iter()), None);
}

#[test]
fn without_any_font_the_built_in_one_writes() {
    let mut typesetter = Typesetter::new(Fonts::of_folders(&[], Language::default()));
    typesetter.set_size(20.0);
    let (person, car) = (ink(&mut typesetter, "person"), ink(&mut typesetter, "car"));
    assert!(person.0 > car.0 && amount(&car.1) > 30);
    assert_ne!(ink(&mut typesetter, "行").1, ink(&mut typesetter, "x").1);
}

#[test]
fn broken_and_foreign_fonts_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("a.ttf", &b"\0\x01\0\0\xff\xff junk"[..]),
        ("b.otf", b""),
        ("c.ttc", b"ttcf\0\x02\0\0\xff\xff\xff\xff"),
    ] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let mut typesetter = Typesetter::new(Fonts::of_folders(&[folder.path().to_owned()], Language::default()));
    typesetter.set_size(20.0);
    assert!(amount(&ink(&mut typesetter, "car").1) > 30);
}

#[test]
fn inks_are_kept_within_bounds() {
    let mut typesetter = Typesetter::new(Fonts::of_folders(&[], Language::default()));
    typesetter.set_size(12.0);
    for index in 0..3000 {
        typesetter.ink(&format!("label {index}"));
    }
    assert!(typesetter.ink_count() <= 512);
    // A label without end is cut.
    assert!(typesetter.ink(&"x".repeat(100_000)).width < 1000);
}

#[test]
fn language_is_read_off_the_labels() {
    assert_eq!(Language::of(["人", "ひと"].into_iter()), Language::Japanese);
    assert_eq!(Language::of(["사람"].into_iter()), Language::Korean);
}
