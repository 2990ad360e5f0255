// Creates a container with dockerode, attaches to it, types, runs a command in it, reads its log, waits, removes it.
'use strict';

const Docker = require('dockerode');
const { PassThrough } = require('stream');

const docker = new Docker({ socketPath: process.env.WHARF_SOCKET });

/** Splits a multiplexed stream and returns both halves as text, once it has ended. */
function halves(stream) {
  const out = new PassThrough(), err = new PassThrough(), text = ['', ''];
  out.on('data', (part) => { text[0] += part; });
  err.on('data', (part) => { text[1] += part; });
  docker.modem.demuxStream(stream, out, err);
  return new Promise((resolve, reject) => {
    stream.on('end', () => resolve(text));
    stream.on('error', reject);
  });
}

async function main() {
  const script = 'read line; echo "got $line"; echo complaint >&2; read line; exit 3';
  const container = await docker.createContainer({
    Image: 'busybox', Cmd: ['sh', '-c', script], name: 'from-node',
    OpenStdin: true, StdinOnce: false, Labels: { from: 'node' },
  });
  const attached = await container.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
  const said = halves(attached);
  await container.start();
  attached.write('typed\n');

  const listed = await docker.listContainers({ filters: { label: ['from=node'] } });
  console.log('listed', listed.length, listed[0].Names[0], listed[0].State);

  const exec = await container.exec({ Cmd: ['sh', '-c', 'cat; echo to-stderr >&2; exit 7'], AttachStdin: true, AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack: true, stdin: true });
  const output = halves(stream);
  stream.write('fed to exec');
  stream.end();
  console.log('exec', JSON.stringify(await output), (await exec.inspect()).ExitCode);

  const terminal = await container.exec({ Cmd: ['tty'], AttachStdout: true, Tty: true });
  const raw = await terminal.start({ hijack: true, Tty: true });
  let shown = '';
  raw.on('data', (part) => { shown += part; });
  await new Promise((resolve) => raw.on('end', resolve));
  console.log('tty', JSON.stringify(shown));

  attached.end('last\n');
  console.log('attach', JSON.stringify(await said));
  console.log('wait', (await container.wait()).StatusCode);

  const followed = await container.logs({ follow: true, stdout: true, stderr: true });
  console.log('logs', JSON.stringify(await halves(followed)));
  const state = (await container.inspect()).State;
  console.log('state', state.Status, state.ExitCode);
  await container.remove();
  await container.inspect().then(() => console.log('still there'), (error) => console.log('gone', error.statusCode));
}

main().catch((error) => { console.error(error); process.exit(1); });
