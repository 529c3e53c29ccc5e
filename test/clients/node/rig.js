// What the scripts have in common.
'use strict';

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// fail ends the process: whatever a client says in an event is an error that it has seen.
function fail(e) {
  console.error(e && e.stack ? e.stack : e);
  process.exit(1);
}

// watchConnection makes an error, and a connection that is lost, one of the test.
function watchConnection(name, client) {
  client.on('error', (e) => fail(`${name}: error event: ${e && e.stack ? e.stack : e}`));
  client.on('reconnecting', () => fail(`${name}: the connection was lost`));
  client.on('node error', (e) => fail(`${name}: node error event: ${e && e.stack ? e.stack : e}`));
}

// summary runs main and prints what it returns as one line of JSON.
function summary(main) {
  process.on('unhandledRejection', fail);
  main().then((result) => {
    console.log(JSON.stringify(result));
    process.exit(0);
  }, fail);
}

module.exports = { sleep, fail, watchConnection, summary };
