//! Any text as a magnet link: no panic, and what is accepted is written and read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtide_proto::metainfo::Magnet;

fuzz_target!(|text: &str| {
    let link = format!("magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a&{text}");
    let _ = Magnet::parse(text);
    if let Ok(magnet) = Magnet::parse(&link) {
        let written = magnet.to_string();
        // Escapes make a link longer, and there is a bound to its length.
        if let Ok(again) = Magnet::parse(&written) {
            assert_eq!(again, magnet);
        } else {
            assert!(written.len() > 64 * 1024, "{written}");
        }
    }
});
