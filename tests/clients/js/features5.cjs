// What MQTT 5.0 adds, as MQTT.js sees it.
'use strict'

const { assert, Client, run } = require('./client.cjs')

const EXAMPLE = {
  payloadFormatIndicator: true,
  contentType: 'text/plain',
  responseTopic: 'answer/to',
  correlationData: Buffer.from([0, 255]),
  userProperties: { a: ['1', '2'], b: '3' }
}

async function propertiesAreForwarded () {
  const client = await Client.connect('client')
  await client.subscribe('topic', 2)
  for (const qos of [0, 1, 2]) {
    await client.publish('topic', 'hello', qos, { properties: EXAMPLE })
    const { properties } = await client.message()
    assert.deepEqual({ ...properties, userProperties: { ...properties.userProperties } }, EXAMPLE)
  }
  await client.publish('topic', 'hello', 1, { properties: { messageExpiryInterval: 3600 } })
  const left = (await client.message()).properties.messageExpiryInterval
  assert.ok(left > 0 && left <= 3600, `${left} seconds left`)
  await client.disconnect()
}

async function subscriptionIdentifiersAndOptions () {
  const client = await Client.connect('client')
  const other = await Client.connect('other')
  await client.subscribe('id/#', 1, { properties: { subscriptionIdentifier: 1 } })
  await client.subscribe('id/+', 1, { properties: { subscriptionIdentifier: 200 } })
  await client.publish('id/x', '', 1)
  const { subscriptionIdentifier } = (await client.message()).properties
  assert.deepEqual([...subscriptionIdentifier].sort(), [1, 200])
  await client.subscribe('room', 1, { nl: true })
  await client.publish('room', 'my own', 1)
  await other.publish('room', "another one's", 1)
  assert.equal(await client.text(), "another one's")
  await client.disconnect()
  await other.disconnect()
}

async function aliasesBothWays () {
  const publisher = await Client.connect('publisher', { autoAssignTopicAlias: true, autoUseTopicAlias: true })
  const subscriber = await Client.connect('subscriber', { properties: { topicAliasMaximum: 2 } })
  await subscriber.subscribe('aliased/#', 1)
  for (let round = 0; round < 3; round++) {
    for (const topic of ['aliased/a', 'aliased/b', 'aliased/c']) {
      await publisher.publish(topic, String(round), 1)
      const message = await subscriber.wait('message')
      assert.equal(message.payload.toString(), String(round))
    }
  }
  await publisher.disconnect()
  await subscriber.disconnect()
}

async function whatTheBrokerTells () {
  const client = await Client.connect('')
  assert.ok(client.connack.properties.assignedClientIdentifier)
  assert.equal(client.connack.properties.maximumPacketSize, 1 << 23)
  await client.disconnect()
}

async function reasonCodes () {
  const client = await Client.connect('client')
  await assert.rejects(client.publish('$SYS/faked', '', 1), { code: 0x87 })
  await assert.rejects(client.publish('$SYS/faked', '', 2), { code: 0x87 })
  await client.disconnect()
}

async function sessionsLastAsLongAsTheyAreToldTo () {
  await (await Client.connect('id', { keep: 3600 })).disconnect()
  const again = await Client.connect('id', { keep: 3600 })
  assert.equal(again.connack.sessionPresent, true)
  await again.disconnect({ reasonCode: 0, properties: { sessionExpiryInterval: 0 } })
  const last = await Client.connect('id', { keep: 0 })
  assert.equal(last.connack.sessionPresent, false)
  await last.disconnect()
}

async function receiveMaximum () {
  const client = await Client.connect('client', { properties: { receiveMaximum: 1 } })
  const other = await Client.connect('other')
  await client.subscribe('window', 2)
  for (let number = 0; number < 50; number++) {
    other.mqtt.publish('window', String(number), { qos: 1 + number % 2 })
  }
  for (let number = 0; number < 50; number++) {
    assert.equal(await client.text(), String(number))
  }
  await client.disconnect()
  await other.disconnect()
}

run(
  propertiesAreForwarded,
  subscriptionIdentifiersAndOptions,
  aliasesBothWays,
  whatTheBrokerTells,
  reasonCodes,
  sessionsLastAsLongAsTheyAreToldTo,
  receiveMaximum
)
