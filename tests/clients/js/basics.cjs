// Messages, retained messages and wildcards, for every version.
'use strict'

const { assert, Client, run } = require('./client.cjs')

async function everyQos () {
  const publisher = await Client.connect('publisher')
  for (const granted of [0, 1, 2]) {
    const subscriber = await Client.connect(`subscriber-${granted}`)
    assert.equal(await subscriber.subscribe('some/topic', granted), granted)
    for (const published of [0, 1, 2]) {
      await publisher.publish('some/topic', 'hello', published)
      const message = await subscriber.message()
      assert.equal(message.payload.toString(), 'hello')
      assert.equal(message.qos, Math.min(published, granted))
    }
    await subscriber.disconnect()
  }
  await publisher.disconnect()
}

async function wildcards () {
  const client = await Client.connect('client')
  for (const [filter, expected] of [['a/+/c', ['a/b/c']], ['#', ['a/b/c', 'b/b/c']], ['b/#', ['b/b/c']]]) {
    await client.subscribe(filter, 1)
    await client.publish('a/b/c', filter, 1)
    await client.publish('b/b/c', filter, 1)
    for (const topic of expected) {
      assert.equal((await client.message()).topic, topic, filter)
    }
    await client.mqtt.unsubscribeAsync(filter)
  }
  await client.disconnect()
}

async function retained () {
  const client = await Client.connect('client')
  await client.publish('kept', 'old', 1, { retain: true })
  await client.publish('kept', 'new', 2, { retain: true })
  await client.subscribe('kept', 1)
  const message = await client.message()
  assert.equal(message.payload.toString(), 'new')
  assert.ok(message.retain)
  await client.publish('kept', '', 1, { retain: true })
  assert.equal((await client.message()).retain, false)
  const late = await Client.connect('late')
  await late.subscribe(['kept', 'marker'], 1)
  await client.publish('marker', 'nothing came before', 1)
  assert.equal(await late.text(), 'nothing came before')
  await late.disconnect()
  await client.disconnect()
}

async function largePayloads () {
  const client = await Client.connect('client')
  await client.subscribe('large', 2)
  const payload = Buffer.alloc(1_000_000, 'moormq')
  for (const qos of [0, 1, 2]) {
    await client.publish('large', payload, qos)
    assert.ok((await client.message()).payload.equals(payload), `a large payload at QoS ${qos} is whole`)
  }
  await client.disconnect()
}

async function manyMessages () {
  const subscriber = await Client.connect('subscriber')
  const publisher = await Client.connect('publisher')
  await subscriber.subscribe('many/+', 2)
  for (let number = 0; number < 300; number++) {
    const qos = 1 + number % 2
    publisher.mqtt.publish(`many/${qos}`, String(number), { qos })
  }
  const next = [undefined, 0, 1]
  for (let count = 0; count < 300; count++) {
    const message = await subscriber.message()
    const qos = Number(message.topic.slice(5))
    assert.equal(Number(message.payload), next[qos], `order at QoS ${qos}`)
    next[qos] += 2
  }
  await subscriber.disconnect()
  await publisher.disconnect()
}

run(everyQos, wildcards, retained, largePayloads, manyMessages)
