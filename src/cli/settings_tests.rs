use super::*;
use crate::cli::args::CommandArgs;
use clap::FromArgMatches as _;

fn parsed(text: impl AsRef<[u8]>, line: &str) -> Result<Arguments, String> {
    let path = Path::new("file");
    let settings = Settings::parse(text.as_ref(), path).map_err(|failure| failure.to_string())?;
    let invoked = line.split(' ').nth(1);
    let command = settings.apply(Arguments::command(), path, invoked).map_err(|failure| failure.to_string())?;
    let matches = command.try_get_matches_from(line.split(' ')).map_err(|error| error.to_string())?;
    Arguments::from_arg_matches(&matches).map_err(|error| error.to_string())
}

#[test]
fn settings_apply_to_the_commands_that_have_the_flag() {
    let text = "# all\nlisten = 0.0.0.0:1\njson = true\n\n[seed]\nslots=7\npeer = a\npeer = b\n[get]\nslots = 3\n";
    let arguments = parsed(text, "bt-fast seed x.torrent").unwrap();
    assert!(arguments.shared.json);
    let CommandArgs::Seed(seed) = arguments.command else { panic!() };
    assert_eq!((seed.network.listen.as_deref(), seed.engine.slots.as_str()), (Some("0.0.0.0:1"), "7"));
    assert_eq!(seed.network.peer, ["a", "b"]);
    let arguments = parsed(text, "bt-fast get x.torrent --slots 9").unwrap();
    let CommandArgs::Get(get) = arguments.command else { panic!() };
    assert_eq!((get.engine.slots.as_str(), get.network.listen.as_deref()), ("9", Some("0.0.0.0:1")));
}

#[test]
fn unknown_flags_and_commands_are_refused_by_line() {
    for (text, part) in [
        ("what = 1", "line 1: no command has a flag 'what'"),
        ("\n[create]\nslots = 1", "line 3: create has no flag 'slots'"),
        ("[get]\nweb = off", "line 2: get has no flag 'web': it belongs below [seed]"),
        ("[seed]\npiece_lenght = 1", "line 2: seed has no flag 'piece_lenght'"),
        ("[create]\npiece_lenght = 1", "line 2: create has no flag 'piece_lenght': did you mean 'piece-length'?"),
        ("\nlisen = 0.0.0.0:1", "line 2: no command has a flag 'lisen': did you mean 'listen'?"),
        ("json", "line 1: give flag = value"),
        ("\n[seeed]\nup = 1M", "line 2: there is no command 'seeed': did you mean [seed]?"),
        ("[Get]\nup = 1M", "line 1: there is no command 'Get': did you mean [get]?"),
        ("[seed\nup = 1M", "line 1: give flag = value"),
        ("config = other", "line 1: 'config' names this file"),
        ("# old line ends\rdeny-peer = 10.0.0.0/8", "line 1: a control character"),
    ] {
        let refusal = parsed(text, "bt-fast show x").unwrap_err();
        assert!(refusal.contains(part), "{refusal}");
    }
    assert!(parsed("rings = many", "bt-fast seed x").unwrap_err().contains("--rings"));
}

#[test]
fn comments_and_values_may_be_in_any_encoding() {
    let arguments = parsed(b"# caf\xe9\r\ndata = /srv/caf\xe9\r\n", "bt-fast seed x.torrent").unwrap();
    let CommandArgs::Seed(seed) = arguments.command else { panic!() };
    assert_eq!(seed.data, Some(PathBuf::from(OsStr::from_bytes(b"/srv/caf\xe9"))));
    assert!(parsed(b"\xef\xbb\xbfjson = true\n", "bt-fast show x").unwrap().shared.json);
    let refusal = parsed(b"\ncaf\xe9 = 1\n", "bt-fast show x").unwrap_err();
    assert!(refusal.contains("line 2: ") && refusal.contains("not UTF-8"), "{refusal}");
    let utf16: Vec<u8> = "json = true\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let refusal = parsed(utf16, "bt-fast show x").unwrap_err();
    assert!(refusal.contains("line 1: a control character"), "{refusal}");
}

#[test]
fn unknown_variables_are_refused() {
    let check = |name: &[u8]| {
        let names = [OsString::from("PATH"), OsString::from_vec(name.to_vec())];
        check_variables(&Arguments::command(), names.into_iter()).map_err(|failure| (failure.exit, failure.line))
    };
    for known in [&b"BT_FAST_BIND_DEVICE"[..], b"BT_FAST_CONFIG", b"BT_FAST_HOOK_NAME", b"BT_FAST", b"bt_fast_x"] {
        assert_eq!(check(known), Ok(()));
    }
    for unknown in [&b"BT_FAST_BIND_DEVISE"[..], b"BT_FAST_", b"BT_FAST_\xe9", b"BT_FAST_bind_device"] {
        let (exit, line) = check(unknown).unwrap_err();
        assert!(exit == Exit::Usage && line.starts_with("bad environment: BT_FAST_"), "{line}");
    }
    for (unknown, remedy) in [
        (&b"BT_FAST_UPP"[..], "BT_FAST_UPP: no flag has this variable: did you mean BT_FAST_UP?"),
        (b"BT_FAST_bind_device", "did you mean BT_FAST_BIND_DEVICE?"),
        (b"BT_FAST_XYZZY", "BT_FAST_XYZZY: no flag has this variable: unset it"),
    ] {
        let (_, line) = check(unknown).unwrap_err();
        assert!(line.ends_with(remedy), "{line}");
    }
    for known in
        ["BT_FAST_ORIGIN_SERVICE_HOST BT_FAST_ORIGIN_PORT BT_FAST_ORIGIN_PORT_6880_TCP_ADDR", "BT_FAST_SERVICE_HOST"]
    {
        let names = known.split(' ').map(OsString::from);
        assert!(check_variables(&Arguments::command(), names).is_ok(), "{known}");
    }
    assert!(check(b"BT_FAST_ORIGIN_PORT").is_err());
    assert!(check(&[&b"BT_FAST_"[..], &[b'X'; 1 << 20]].concat()).unwrap_err().1.ends_with("unset it"));
}

#[test]
fn every_flag_has_its_variable() {
    fn check(command: &Command) {
        for arg in
            command.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| long != "help" && long != "version"))
        {
            let name = arg.get_env().and_then(OsStr::to_str).unwrap_or_default();
            let expected = arg.get_long().unwrap().replace('-', "_").to_uppercase();
            assert_eq!(name, format!("{FLAG_VARIABLES}{expected}"), "{}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Settings::default().apply(Arguments::command(), Path::new(""), None).unwrap());
}

#[test]
fn the_config_flag_is_found_before_parsing() {
    let named = |line: &str| named(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
    assert_eq!(named("bt-fast seed x --config a"), Some("a".into()));
    assert_eq!(named("bt-fast --config=b seed"), Some("b".into()));
    assert_eq!(named("bt-fast seed -- --config a"), None);
    let raw = OsString::from_vec(b"--config=caf\xe9".to_vec());
    assert_eq!(super::named(&["bt-fast".into(), raw]), Some(OsString::from_vec(b"caf\xe9".to_vec()).into()));
}

#[test]
fn switches_are_on_or_off() {
    let json =
        |value: &str| parsed(format!("json = {value}\n"), "bt-fast show x").map(|arguments| arguments.shared.json);
    for on in ["on", "true", "yes", "1", "ON", "True"] {
        assert_eq!(json(on), Ok(true), "{on}");
    }
    for off in ["off", "false", "no", "0", "NO", ""] {
        assert_eq!(json(off), Ok(false), "{off}");
    }
    for bad in ["maybe", "2", "on off"] {
        let refusal = json(bad).unwrap_err();
        assert!(refusal.contains(&format!("'{bad}' for '--json': file: line 1: give on or off")), "{refusal}");
    }
}

#[test]
fn counts_and_optional_values_may_be_on_or_off() {
    for (value, verbosity) in [("true", 1), ("off", 0), ("2", 2), ("", 0)] {
        let arguments = parsed(format!("verbose = {value}"), "bt-fast show x").unwrap();
        assert_eq!(arguments.shared.verbose, verbosity, "{value}");
    }
    assert!(parsed("verbose = much", "bt-fast show x").unwrap_err().contains("give on, off or a number"));
    let seed = |value: &str| {
        let arguments = parsed(format!("[get]\nseed = {value}"), "bt-fast get x").unwrap();
        let CommandArgs::Get(get) = arguments.command else { panic!() };
        get.seed
    };
    assert_eq!(
        ["on", "Yes", "2.0", "1", "off"].map(seed),
        ["", "", "2.0", "1", "off"].map(|value| { (value != "off").then(|| value.to_owned()) })
    );
    let proxies = |text: &str| {
        let CommandArgs::Track(track) = parsed(text, "bt-fast track --open").unwrap().command else { panic!() };
        track.proxy.trust_proxy
    };
    assert_eq!(proxies("trust-proxy = true\ntrust-proxy = 10.0.0.0/8"), ["", "10.0.0.0/8"]);
    assert_eq!(proxies("trust-proxy = false"), [""; 0]);
}

#[test]
fn a_section_applies_to_its_command_only() {
    let text = "[show]\njson = on\n";
    assert!(parsed(text, "bt-fast show x").unwrap().shared.json);
    assert!(!parsed(text, "bt-fast magnet x").unwrap().shared.json);
}
