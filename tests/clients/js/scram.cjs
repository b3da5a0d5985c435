// Enhanced authentication with SCRAM-SHA-256 (RFC 7677): the packets by MQTT.js, the mechanism here, on the primitives of OpenSSL.
// The broker has a user `ann` with the password `pencil`.
'use strict'

const crypto = require('node:crypto')
const { assert, Client, mqtt, options, run } = require('./client.cjs')

const METHOD = 'SCRAM-SHA-256'
const hmac = (key, text) => crypto.createHmac('sha256', key).update(text).digest()

// One exchange, of this user with this password.
class Scram {
  constructor (user, password) {
    this.password = password
    this.nonce = crypto.randomBytes(18).toString('base64')
    this.bare = `n=${user},r=${this.nonce}`
  }

  first () {
    return Buffer.from(`n,,${this.bare}`)
  }

  // The answer to the broker's question. Remembers what the broker has to say then.
  last (question) {
    const [nonce, salt, iterations] = question.toString().split(',').map(part => part.slice(2))
    assert.ok(nonce.startsWith(this.nonce) && nonce.length > this.nonce.length)
    const salted = crypto.pbkdf2Sync(this.password, Buffer.from(salt, 'base64'), Number(iterations), 32, 'sha256')
    const unsigned = `c=${Buffer.from('n,,').toString('base64')},r=${nonce}`
    const signed = `${this.bare},${question},${unsigned}`
    const clientKey = hmac(salted, 'Client Key')
    const signature = hmac(crypto.createHash('sha256').update(clientKey).digest(), signed)
    this.verifier = `v=${hmac(hmac(salted, 'Server Key'), signed).toString('base64')}`
    return Buffer.from(`${unsigned},p=${signature.map((byte, at) => byte ^ clientKey[at]).toString('base64')}`)
  }
}

const auth = (reasonCode, authenticationData) =>
  ({ cmd: 'auth', reasonCode, properties: { authenticationMethod: METHOD, authenticationData } })

// A client that answers what it is asked, and keeps the AUTH that ends an exchange.
function begin (scram) {
  const properties = { authenticationMethod: METHOD, authenticationData: scram.first() }
  const client = new Client(mqtt.connect(options('scram', { properties })))
  client.scram = scram
  client.mqtt.handleAuth = (packet, done) => {
    if (packet.reasonCode !== 0x18) return client.put('auth', packet)
    done(null, auth(0x18, client.scram.last(packet.properties.authenticationData)))
  }
  return client
}

async function both_sides_prove_that_they_know_the_password () {
  const client = begin(new Scram('ann', 'pencil'))
  const connack = await client.wait('connect')
  assert.equal(connack.properties.authenticationData.toString(), client.scram.verifier)
  assert.equal(await client.subscribe('t', 1), 1)
  for (let again = 0; again < 2; again++) {
    client.scram = new Scram('ann', 'pencil')
    client.mqtt._sendPacket(auth(0x19, client.scram.first()))
    await client.publish('t', `${again}`, 1)
    assert.equal(await client.text(), `${again}`)
    const success = await client.wait('auth')
    assert.equal(success.reasonCode ?? 0, 0)
    assert.equal(success.properties.authenticationData.toString(), client.scram.verifier)
  }
  await client.disconnect()
}

async function nobody_gets_in_without_the_password () {
  for (const [user, password] of [['ann', 'pen'], ['bob', 'pencil']]) {
    const client = begin(new Scram(user, password))
    assert.equal((await client.wait('error')).code, 0x86)
    await client.wait('close')
  }
}

run(both_sides_prove_that_they_know_the_password, nobody_gets_in_without_the_password)
