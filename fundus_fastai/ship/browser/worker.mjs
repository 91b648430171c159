// All that takes time, beside the page: opens the net, reads a picture, answers, and covers window after window.

import * as ort from './ort.wasm.min.mjs'
import {doubt, fieldSeen, netPicture, remark} from './eye.mjs'
import {openPicture} from './picture.mjs'
import {copy, decide, decisions, foremost, scores, spread, windowList} from './answer.mjs'

const say = (said, n, more={}) => postMessage({said, n, ...more}) // `n` is that of the act
const here = name => new URL(name, import.meta.url).href
let config, draws, session, eye, job

async function fetched(name) {
  let r
  try { r = await fetch(here(name)) } catch { throw `${name} cannot be fetched: is the server that gave this page still there?` }
  if (!r.ok) throw `${name} is missing beside this page (${r.status}): write the page again with fundus page`
  return r.arrayBuffer()
}

async function open({n}) {
  config = JSON.parse(new TextDecoder().decode(await fetched('net.json')))
  const raw = await fetched('model.onnx')
  if (crypto.subtle) { // only where the page is trusted: https, or this machine
    const sum = new Uint8Array(await crypto.subtle.digest('SHA-256', raw))
    const hex = [...sum].map(o => o.toString(16).padStart(2, '0')).join('')
    if (hex!==config.model_sha256) throw 'the net beside this page is not the one that it was written with: write the page again with fundus page'
  }
  draws = new Uint8Array(await fetched('draws.bin'))
  ort.env.wasm.numThreads = 1
  ort.env.wasm.wasmPaths = {mjs:here('ort-wasm-simd-threaded.mjs'), wasm:here('ort-wasm-simd-threaded.wasm')}
  session = await ort.InferenceSession.create(raw, {executionProviders:['wasm'], logSeverityLevel:3})
  say('ready', n, {config})
}

async function ask(pictures) { // rows of numbers by column, one a picture, and the calibrated ones
  const n = pictures.length, s = config.size, x = new Uint8Array(n*s*s*3)
  pictures.forEach((d, i) => x.set(d, i*s*s*3))
  const out = await session.run({image:new ort.Tensor('uint8', x, [n,s,s,3])}), k = config.columns.length
  const rows = a => pictures.map((_, i) => Object.fromEntries(config.columns.map((c, j) => [c, a.data[i*k+j]])))
  return [rows(out.answer), out.calibrated ? rows(out.calibrated) : null]
}

async function read({file, n:me}) {
  const t = performance.now()
  eye = null
  const whole = await openPicture(file), why = remark(whole, config.image, draws)
  if (me!==job) return
  if (why) throw why
  const im = netPicture(whole, config, draws), inside = fieldSeen(whole, config, draws)
  const [[row], calibrated] = await ask([im.d])
  if (me!==job) return
  eye = {im, inside, row, base:scores(config, row)}
  const shown = calibrated ? calibrated[0] : row
  say('answer', me, {picture:im.d.slice(), decision:decide(config, row), decisions:decisions(config, row), foremost:foremost(config, row),
                     row, shown, calibrated:Boolean(calibrated), size:[whole.w, whole.h], doubt:doubt(whole, config.image, draws), ms:performance.now()-t})
}

async function cover(me, window, stride, stage) { // false where it was stopped
  const {im, inside, base} = eye, [windows, fill] = windowList(im, inside, window, stride), values = []
  const lot = stage==='coarse' ? 6 : 12
  for (let i=0; i<windows.length; i+=lot) {
    const some = windows.slice(i, i+lot).map(o => copy(im, inside, fill, o, window))
    const [rows] = await ask(some)
    await new Promise(done => setTimeout(done)) // so that a stop is heard
    if (me!==job) return false
    for (const r of rows) values.push(scores(config, r).map((v, k) => base[k]-v))
    say('progress', me, {stage, done:Math.min(i+lot, windows.length), of:windows.length})
  }
  const maps = base.map((_, k) => spread(windows, values.map(o => o[k]), config.size, window, stride, inside))
  say('map', me, {stage, maps, windows, values, window, stride})
  return true
}

async function why({n:me}) {
  const t = performance.now(), w = config.window, s = config.stride
  const size = config.size, big = o => Math.min(2*o, size)
  const whole = await cover(me, big(w), big(s), 'coarse') && await cover(me, w, s, 'fine')
  if (whole) say('whole', me, {ms:performance.now()-t})
}

const acts = {open, read, why, stop({n}) { say('stopped', n) }}

onmessage = async ({data}) => {
  job = data.n
  try { await acts[data.act](data) }
  catch (e) {
    const text = typeof e==='string' ? e : `could not be done by this browser (${String(e && e.message || e).slice(0, 200)})`
    say('refused', data.n, {act:data.act, why:text})
  }
}
say('here', 0)
