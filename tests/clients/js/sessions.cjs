// Sessions, takeover and wills, for every version.
'use strict'

const { assert, Client, run, version } = require('./client.cjs')

const FOR_AN_HOUR = { keep: 3600 }

async function resumedWithWhatWasQueued () {
  const publisher = await Client.connect('publisher')
  let away = await Client.connect('away', FOR_AN_HOUR)
  await away.subscribe('queue', 2)
  for (const leave of ['disconnect', 'cut']) {
    await away[leave]()
    for (let number = 0; number < 100; number++) {
      await publisher.publish('queue', String(number), 1 + number % 2)
    }
    away = await Client.connect('away', FOR_AN_HOUR)
    // MQTT 3.1 has no such flag.
    assert.equal(away.connack.sessionPresent, version !== 3)
    // QoS by QoS: at QoS 2 MQTT.js hands a message over only when it is released.
    const next = [undefined, 0, 1]
    for (let count = 0; count < 100; count++) {
      const message = await away.message()
      assert.equal(Number(message.payload), next[message.qos])
      next[message.qos] += 2
    }
    // What follows the acknowledgements shows that the broker has read them.
    await away.publish('elsewhere', '', 1)
  }
  await away.disconnect()
  const clean = await Client.connect('away')
  assert.equal(clean.connack.sessionPresent, false)
  await clean.disconnect()
  await publisher.disconnect()
}

async function takenOver () {
  const old = await Client.connect('id', FOR_AN_HOUR)
  await old.subscribe('topic', 1)
  const young = await Client.connect('id', FOR_AN_HOUR)
  await old.wait('close')
  if (version === 5) assert.equal((await old.wait('disconnect')).reasonCode, 0x8E)
  await young.publish('topic', 'to the new one', 1)
  assert.equal(await young.text(), 'to the new one')
  await young.disconnect()
  await (await Client.connect('id')).disconnect()
}

async function wills () {
  const watcher = await Client.connect('watcher')
  await watcher.subscribe('will/#', 2)
  for (const qos of [0, 1, 2]) {
    const will = { topic: 'will/cut', payload: Buffer.from('gone'), qos, retain: false }
    await (await Client.connect('id', { will })).cut()
    const message = await watcher.message()
    assert.equal(message.payload.toString(), 'gone')
    assert.equal(message.qos, qos)
  }
  const will = { topic: 'will/polite', payload: Buffer.from('gone'), qos: 1, retain: false }
  await (await Client.connect('id', { will })).disconnect()
  await watcher.publish('will/marker', 'nothing came before', 1)
  assert.equal(await watcher.text(), 'nothing came before')
  await watcher.disconnect()
}

run(resumedWithWhatWasQueued, takenOver, wills)
