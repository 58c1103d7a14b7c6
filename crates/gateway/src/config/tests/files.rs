//! What the machine says against a configuration: files that cannot be used, and the gateway's own address.

use std::path::Path;

use super::*;

#[test]
fn files_that_cannot_be_read_are_errors_of_the_key_that_names_them() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.pem");
    let text = format!("ca_files = [{missing:?}, {:?}]\n[tls]\ncert = {missing:?}\n", directory.path());
    let errors = errors_of(&text);
    assert_eq!(errors.matches("allowed: a file that can be read, but: ").count(), 3, "{errors}");
    assert!(errors.contains("tls.cert: found a certificate without a key"), "{errors}");
    let key = directory.path().join("key.pem");
    std::fs::write(&key, &certificate_and_key()[1]).unwrap();
    assert!(one(&format!("[tls]\nkey = {key:?}")).contains("tls.key: found a key without a certificate"));
    let load = |path: &Path| Config::load(Sources { file: Some(path.to_owned()), ..Sources::default() });
    let error = load(&missing).expect_err("missing").to_string();
    assert!(error.contains("missing.pem: found a file that cannot be read: No such file"), "{error}");
    let latin = directory.path().join("latin.toml");
    std::fs::write(&latin, b"# a\nlisten = \"\xe4\"").unwrap();
    let error = load(&latin).expect_err("not UTF-8").to_string();
    assert!(error.contains("found bytes that are not UTF-8 in line 2"), "{error}");
    std::fs::File::create(&latin).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    assert!(load(&latin).expect_err("too large").to_string().contains("more than 8 MiB"));
    std::fs::write(&latin, "workers = 2").unwrap();
    assert_eq!(load(&latin).unwrap().workers, 2);
}

#[test]
fn files_without_what_they_are_named_for_are_errors_beside_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let [cert, key] = certificate_and_key();
    let (good, own) = (write("cert", &cert), write("key", &key));
    let other = write("other", &certificate_and_key()[1]);
    let hostname = write("hostname", "geheim\n");
    let cut = write("cut", key.split("-----END").next().unwrap());
    let odd = write("odd", "-----BEGIN PRIVATE KEY-----\nZ2VoZWlt\n-----END PRIVATE KEY-----\n");
    let empty = write("empty", "-----BEGIN CERTIFICATE-----\nZ2VoZWlt\n-----END CERTIFICATE-----\n");
    let tls = |cert: &Path, key: &Path| format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n");
    assert!(from_file(&tls(&good, &own)).is_ok());
    let all = errors_of(&format!(
        "workers = 0\nca_files = [{hostname:?}]\n{}",
        tls(&hostname, &own).replace(own.to_str().unwrap(), hostname.to_str().unwrap())
    ));
    let lines: Vec<_> = all.lines().collect();
    assert_eq!(lines.len(), 4, "{all}");
    for (line, start) in lines.iter().zip(["1:11: workers: ", "2:12: ca_files: ", "4:8: tls.cert: ", "5:7: tls.key: "])
    {
        assert!(line.starts_with(start), "{all}");
    }
    assert!(lines[2].ends_with("allowed: a PEM file with certificates in it (BEGIN CERTIFICATE), but there is none"));
    assert!(lines[3].ends_with("allowed: a PEM file with a private key in it (BEGIN PRIVATE KEY), but there is none"));
    for (cert, key, end) in [
        (&good, &other, "5:7: tls.key"),
        (&good, &cut, "5:7: tls.key"),
        (&good, &odd, "5:7: tls.key"),
        (&empty, &own, "4:8: tls.cert"),
    ] {
        let error = one(&format!("\n\n{}", tls(cert, key)));
        assert!(error.starts_with(end) && !error.contains("geheim") && !error.contains("Z2V"), "{error}");
    }
}

#[test]
fn a_node_that_is_the_gateway_itself_is_refused_beside_the_others() {
    let text = "listen = \"127.0.0.1:2260\"\nworkers = 0\n\
        origins = [\"http://localhost:2260\"]\nnodes = [\"http://127.0.0.1:2261\", \"socks5://u:p@127.0.0.1:2260\"]\n\
        [[node]]\ntag = \"me\"\nkind = \"origin\"\nurl = \"http://127.0.0.1:2260\"\n";
    let end = "this gateway's own address; allowed: another address than listen has, 127.0.0.1:2260: every request would come back";
    assert_eq!(
        errors_of(text),
        format!(
            "2:11: workers: found 0; allowed: a whole number from 1 to 256\n\
             3:11: origins: found \"http://localhost:2260\", {end}\n\
             4:9: nodes: found \"socks5://***@127.0.0.1:2260\", {end}\n\
             8:7: node.url: found \"http://127.0.0.1:2260\", {end}"
        )
    );
    for (listen, url, own) in [
        ("0.0.0.0:80", "http://127.0.0.1", true),
        ("[::]:80", "http://[::1]", true),
        ("[::ffff:127.0.0.1]:80", "http://127.0.0.1", true),
        ("127.0.0.1:80", "http://0.0.0.0", true),
        ("0.0.0.0:80", "http://localhost", true),
        ("192.0.2.1:80", "http://192.0.2.1", true),
        ("192.0.2.1:80", "http://localhost", false),
        ("127.0.0.1:80", "http://127.0.0.2", false),
        ("127.0.0.1:80", "http://127.0.0.1:81", false),
        ("127.0.0.1:80", "http://example.com", false),
        ("127.0.0.1:0", "http://127.0.0.1", false),
    ] {
        let flags =
            Flags { listen: Some(listen.into()), origins: texts(&[url]), token: Some("t".into()), ..Flags::default() };
        assert_eq!(from_flags(flags).is_err(), own, "{listen} {url}");
    }
    // Where it listens is not known, so nothing is said of it.
    assert!(one("listen = 5\norigins = [\"http://127.0.0.1:2260\"]").starts_with("1:10: listen"));
}
