//! Content by its digest.

use windlass_model::payload::Blob;

use super::Subject;
use super::subject::*;
use crate::NewRun;

pub async fn content_is_kept_by_its_digest(subject: &Subject) {
    let of_create = Blob::new(b"inputs".to_vec());
    let version = subject.definition().await;
    let run = NewRun { blobs: vec![of_create.clone()], ..new_run(1, version) };
    subject.store.create_run(run).await.unwrap();
    subject.renew(1).await;
    let hand = Hand::engine(&subject.claim(1, 1).await.unwrap().row);
    let of_write = Blob::new(b"output".to_vec());
    let mut write = hand.write(vec![started(0, 1)]);
    write.blobs = vec![of_write.clone()];
    subject.store.write_run(write).await.unwrap();
    for blob in [of_create, of_write] {
        let found = subject.store.get_blob(TENANT, &blob.digest).await.unwrap();
        assert_eq!(found.as_deref(), Some(&blob.content[..]));
    }
}

pub async fn the_same_content_is_kept_once(subject: &Subject) {
    let blob = Blob::new(b"twice".to_vec());
    let mut hand = subject.held(1, 1).await;
    for attempt in 1..=2 {
        let mut write = hand.write(vec![started(0, attempt)]);
        write.blobs = vec![blob.clone(), blob.clone()];
        subject.store.write_run(write.clone()).await.unwrap();
        hand.wrote(&write);
    }
    // One blob of nobody, found once.
    let damage = subject.store.find_damage(10).await.unwrap();
    let orphans: Vec<_> = damage.iter().map(|it| (it.kind.as_str(), it.subject.as_str())).collect();
    assert_eq!(orphans, [("orphan_blob", blob.digest.0.as_str())]);
}

pub async fn large_and_empty_content_is_kept_as_it_is(subject: &Subject) {
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let blobs = vec![Blob::new(large), Blob::new(Vec::new())];
    let hand = subject.held(1, 1).await;
    let mut write = hand.write(vec![started(0, 1)]);
    write.blobs.clone_from(&blobs);
    subject.store.write_run(write).await.unwrap();
    for blob in blobs {
        let found = subject.store.get_blob(TENANT, &blob.digest).await.unwrap().unwrap();
        assert!(found == *blob.content, "{} bytes", blob.content.len());
    }
}
