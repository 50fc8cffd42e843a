// imapflow against a running demo.
//
// usage: node with_imapflow.js IMAP IMAPS
'use strict';
const assert = require('node:assert/strict');
const { ImapFlow } = require('imapflow');

const [IMAP, IMAPS] = process.argv.slice(2).map(Number);
const auth = { user: 'alice@posthorn.test', pass: 'posthorn-demo' };
const events = [];
let said = [];
let answers = [];

setTimeout(() => { throw new Error('it takes too long'); }, 180_000).unref();

function client(options = {}) {
  const log = (line) => {
    if (line.src === 'c') said.push(line.msg);
    if (line.src === 's') answers.push(line.msg);
  };
  const quiet = () => {};
  const flow = new ImapFlow({
    host: '127.0.0.1', port: IMAPS, secure: true, auth, tls: { rejectUnauthorized: false },
    qresync: true, logger: { debug: log, info: quiet, warn: quiet, error: quiet }, ...options,
  });
  for (const event of ['exists', 'flags', 'expunge'])
    flow.on(event, (e) => events.push([event, e]));
  return flow;
}

// What was said since the last time; nothing of it may have been refused but with these codes.
function talk(...codes) {
  const bad = answers.filter((l) => /^\S+ (BAD|NO)\b/.test(l) && !codes.some((c) => l.includes(c)));
  assert.deepEqual(bad, []);
  const lines = said;
  said = [];
  answers = [];
  return lines;
}

async function until(what) {
  while (!what()) await new Promise((done) => setTimeout(done, 5));
}

async function all(iterator) {
  const list = [];
  for await (const item of iterator) list.push(item);
  return list;
}

async function bytes(download) {
  return Buffer.concat(await all(download.content));
}

const PARTS = [
  'From: =?utf-8?q?J=C3=B6rg?= <joerg@example.net>',
  'To: alice@posthorn.test, "Doe, John" <john@example.net>',
  'Subject: =?utf-8?B?w4RwZmVs?=', 'Message-ID: <parts@example.net>', 'MIME-Version: 1.0',
  'Content-Type: multipart/mixed; boundary=b', '', '--b',
  'Content-Type: text/plain; charset=utf-8', 'Content-Transfer-Encoding: quoted-printable', '',
  'h=C3=A4llo', '--b',
  'Content-Type: application/octet-stream; name="=?utf-8?q?=C3=A4.bin?="',
  "Content-Disposition: attachment; filename*=utf-8''%C3%A4.bin",
  'Content-Transfer-Encoding: base64', '', 'AAECAwQFBgc=', '--b',
  'Content-Type: message/rfc822', '', 'From: x@example.net', 'Subject: inner', '', 'inner text',
  '--b--', '',
].join('\r\n');

async function packed() {
  const c = client();
  await c.connect();
  assert.equal(c.serverInfo.name, 'Posthorn');
  for (const name of ['CONDSTORE', 'QRESYNC', 'UTF8=ACCEPT'])
    assert(c.enabled.has(name), name);
  assert(talk().some((l) => l.endsWith(' COMPRESS DEFLATE')));

  const list = await c.list({ statusQuery: { messages: true, highestModseq: true } });
  assert.deepEqual(list.map((m) => m.path).sort(), ['Archive', 'Drafts', 'INBOX', 'Junk', 'Sent', 'Trash']);
  for (const mailbox of list) {
    assert.equal(mailbox.status.messages, 0, mailbox.path);
    if (mailbox.path !== 'INBOX') assert.equal(mailbox.specialUse, '\\' + mailbox.path);
  }

  // Names in UTF-8
  const created = await c.mailboxCreate(['Ordner', 'Ü & x']);
  assert.equal(created.path, 'Ordner/Ü & x');
  assert(created.mailboxId);
  const renamed = await c.mailboxRename('Ordner/Ü & x', ['Ordner', '日本']);
  assert.equal(renamed.newPath, 'Ordner/日本');
  assert.equal((await c.mailboxOpen('Ordner/日本')).mailboxId, created.mailboxId);

  // Messages, and what is found in them
  const first = await c.append('INBOX', PARTS, ['\\Seen', '$Label'], new Date('2021-02-03T04:05:06Z'));
  assert.equal(first.uid, 1);
  for (let n = 2; n <= 5; n++)
    await c.append('INBOX', `Subject: ${n}\r\nMessage-ID: <${n}@x.test>\r\n\r\nbody ${n}\r\n`);
  await c.append('INBOX', 'From: Jörg <j@example.net>\r\nSubject: Äpfel\r\n\r\nx\r\n');
  const inbox = await c.mailboxOpen('INBOX');
  assert.equal(inbox.exists, 6);
  const [m] = await all(c.fetch('1', {
    uid: true, flags: true, envelope: true, bodyStructure: true, size: true, internalDate: true,
    source: true, headers: ['subject'], threadId: true,
  }));
  assert.equal(m.source.toString(), PARTS);
  assert.equal(m.size, PARTS.length);
  assert.equal(m.envelope.subject, 'Äpfel');
  assert.deepEqual(m.envelope.from, [{ name: 'Jörg', address: 'joerg@example.net' }]);
  assert.deepEqual(m.envelope.to[1], { name: 'Doe, John', address: 'john@example.net' });
  assert.equal(m.internalDate.getTime(), Date.UTC(2021, 1, 3, 4, 5, 6));
  assert.deepEqual([...m.flags].sort(), ['$Label', '\\Seen']);
  assert(m.emailId && m.threadId && m.modseq);
  assert.deepEqual(m.bodyStructure.childNodes.map((p) => p.type),
    ['text/plain', 'application/octet-stream', 'message/rfc822']);
  assert.equal((await c.fetchOne('6', { envelope: true })).envelope.from[0].name, 'Jörg');
  assert.equal((await bytes(await c.download('1', '1', { uid: true }))).toString().trim(), 'hällo');
  const binary = await c.download('1', '2', { uid: true });
  assert.equal(binary.meta.filename, 'ä.bin');
  assert.deepEqual([...await bytes(binary)], [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.equal((await bytes(await c.download('1', '3.TEXT', { uid: true }))).toString().trim(), 'inner text');
  for (const [query, found] of [
    [{ all: true }, [1, 2, 3, 4, 5, 6]],
    [{ subject: 'Äpfel' }, [1, 6]],
    [{ or: [{ seen: true }, { text: 'body 3' }, { flagged: true }] }, [1, 3]],
    [{ before: new Date('2021-02-04') }, [1]],
    [{ since: new Date('2022-01-01'), not: { subject: '2' } }, [3, 4, 5, 6]],
    [{ keyword: '$Label', uid: '1:*' }, [1]],
    [{ header: { 'message-id': '<5@x.test>' } }, [5]],
    [{ emailId: m.emailId }, [1]],
    [{ modseq: BigInt(m.modseq) + 1n, larger: 30 }, [2, 3, 4, 5, 6]],
  ])
    assert.deepEqual(await c.search(query, { uid: true }), found);

  // Flags, copies, moves, deletions
  assert(await c.messageFlagsAdd('2', ['\\Flagged']));
  assert(await c.messageFlagsSet('3', ['$X']));
  assert(await c.messageFlagsRemove('3', ['$X']));
  const copied = await c.messageCopy('1:2', 'Ordner/日本');
  assert.deepEqual([...copied.uidMap], [[1, 1], [2, 2]]);
  const moved = await c.messageMove('3', 'Ordner/日本');
  assert.deepEqual([...moved.uidMap], [[3, 3]]);
  assert(await c.messageDelete('4', { uid: true }));
  const gone = events.filter(([e]) => e === 'expunge').map(([, e]) => e.uid);
  assert.deepEqual(gone, [3, 4]);
  const quota = await c.getQuota('INBOX');
  assert.equal(quota.storage.limit, 1024 * 1024);
  assert.equal(quota.message?.usage ?? quota.messages?.usage, 7);
  assert.equal((await c.status('Ordner/日本', { messages: true })).messages, 3);
  await c.mailboxDelete('Ordner/日本');
  talk();

  assert.equal((await c.mailboxCreate('INBOX')).created, false);
  await assert.rejects(c.mailboxOpen('Nope'), (e) => e.serverResponseCode === 'NONEXISTENT');
  talk('[ALREADYEXISTS]', '[NONEXISTENT]');
  return c;
}

async function idles_and_comes_back(c) {
  // A copy: it is kept up with what comes.
  const before = { ...await c.mailboxOpen('INBOX') };
  events.length = 0;
  c.idle();
  await until(() => answers.some((l) => l.startsWith('+')));
  const other = client({ logger: false });
  await other.connect();
  await other.append('INBOX', 'Subject: new\r\n\r\nnew\r\n');
  await other.mailboxOpen('INBOX');
  await other.messageFlagsAdd('1', ['\\Answered'], { uid: true });
  await other.messageDelete('5', { uid: true });
  await until(() => events.some(([e]) => e === 'expunge'));
  const shown = events.map(([e, it]) => [e, it.uid ?? it.count]);
  assert.deepEqual(shown.filter(([e]) => e === 'exists'), [['exists', before.exists + 1]]);
  assert(shown.some(([e, uid]) => e === 'flags' && uid === 1));
  assert.deepEqual(shown.at(-1), ['expunge', 5]);
  await c.logout();

  // Away meanwhile
  await other.messageFlagsAdd('2', ['\\Seen'], { uid: true });
  await other.messageDelete('6', { uid: true });
  await other.logout();
  talk();
  events.length = 0;
  const again = client();
  await again.connect();
  const inbox = await again.mailboxOpen('INBOX', {
    changedSince: before.highestModseq, uidValidity: before.uidValidity,
  });
  assert.equal(inbox.qresync, true);
  assert(talk().some((l) => l.includes('(QRESYNC (')));
  await until(() => events.some(([e]) => e === 'flags'));
  const told = events.filter(([e]) => e === 'expunge').map(([, e]) => [e.uid, e.earlier]);
  assert.deepEqual(told, [[5, true], [6, true]]);
  const changed = await all(again.fetch('1:*', { uid: true, flags: true }, { changedSince: before.highestModseq }));
  assert.deepEqual(changed.map((m) => m.uid), [1, 2, 7]);
  await again.logout();
  talk();
}

async function other_ways_in() {
  for (const options of [
    { port: IMAP, secure: false },
    { port: IMAP, secure: false, doSTARTTLS: false, disableCompression: true, disableAutoEnable: true },
    { auth: { ...auth, loginMethod: 'AUTH=LOGIN' } },
    { auth: { ...auth, loginMethod: 'LOGIN' } },
  ]) {
    const c = client(options);
    await c.connect();
    assert((await c.mailboxOpen('INBOX')).exists > 0);
    await c.logout();
    talk();
  }
  const wrong = client({ auth: { ...auth, pass: 'wrong' } });
  await assert.rejects(wrong.connect(), (e) => e.authenticationFailed);
  talk('[AUTHENTICATIONFAILED]');
}

packed().then(idles_and_comes_back).then(other_ways_in).then(
  () => { console.log('imapflow: ok'); process.exit(0); },
  (error) => { console.error(error, said, answers); process.exit(1); },
);
