// What is seen and pressed. Names and numbers enter as text only; all work is done in worker.mjs.

const $ = id => document.getElementById(id)
const url = new URL('./worker.mjs', import.meta.url).href
// A worker from a blob is bound by this page's policy, wherever it is served from; one from a file would not be
const bound = URL.createObjectURL(new Blob([`import ${JSON.stringify(url)}`], {type:'text/javascript'}))

let worker, met = false, config, answer, map, file, early, ready = false, asked = 0

function tell(text, wrong=false) {
  $('state').textContent = text
  $('state').className = wrong ? 'wrong' : ''
}
const ask = (act, more={}) => worker.postMessage({act, n:++asked, ...more})
const show = (id, on=true) => { $(id).hidden = !on }
const two = v => String(Number(v.toPrecision(2))) // digits, so that little is not 0.00
const seconds = ms => `${(ms/1000).toFixed(ms<9950 ? 1 : 0)} s`
const row = (...cells) => {
  const tr = document.createElement('tr')
  cells.forEach((o, i) => {
    const td = document.createElement(i ? 'td' : 'th')
    if (!i) td.scope = 'row'
    td.append(o)
    tr.append(td)
  })
  return tr
}
const label = c => c.startsWith('p_') ? c.slice(2) : c==='pred' || c==='pred_age' ? config.number : c

// --- the picture

function take(f) {
  if (!f) return
  if (!ready) {
    if ($('state').className==='wrong') return // there will be no net
    early = f
    return tell(`${f.name} is read as soon as the net is here. ${$('state').dataset.wait}`)
  }
  file = f
  answer = map = null
  show('answer', false)
  show('why', false)
  show('paper', false)
  tell(`Reading ${f.name}`)
  ask('read', {file:f})
}

for (const b of document.querySelectorAll('.try')) b.addEventListener('click', async () => {
  const r = await fetch(`./${b.dataset.name}`).catch(() => null)
  if (r && r.ok) take(new File([await r.blob()], b.dataset.name, {type:'image/png'}))
  else tell(`${b.dataset.name} cannot be fetched: is the server that gave this page still there?`, true)
})
$('file').addEventListener('change', e => { take(e.target.files[0]); e.target.value = '' })
for (const k of ['dragenter','dragover']) addEventListener(k, e => { e.preventDefault(); $('drop').classList.add('over') })
for (const k of ['dragleave','drop']) addEventListener(k, () => $('drop').classList.remove('over'))
addEventListener('drop', e => {
  e.preventDefault()
  const f = e.dataTransfer.files
  if (f.length>1) tell(`${f.length} files were dropped, and one is answered at a time: drop one`, true)
  else if (f.length) take(f[0])
})

function draw(canvas, bytes) {
  const s = config.size, p = new ImageData(s, s)
  canvas.width = canvas.height = s
  for (let i=0, k=0; i<bytes.length; i+=3, k+=4) {
    p.data.set(bytes.subarray(i, i+3), k)
    p.data[k+3] = 255
  }
  canvas.getContext('2d').putImageData(p, 0, 0)
}

// --- the answer

function percent(p) { return p>.9995 ? 'over 99.9 %' : p<.0005 ? 'under 0.1 %' : `${(100*p).toFixed(1)} %` }

function answered(o) {
  answer = o
  draw($('picture'), o.picture)
  $('overlay').width = 0
  $('picture').className = ''
  $('decision').textContent = config.unit ? `${o.decision} ${config.unit}` : o.decision
  const bars = config.columns.filter(c => c.startsWith('p_')).map(c => {
    const bar = document.createElement('meter')
    bar.value = o.shown[c]
    bar.setAttribute('aria-hidden', 'true')
    return row(label(c), percent(o.shown[c]), bar)
  })
  const numbers = config.columns.filter(c => !c.startsWith('p_')).map(c => row(label(c), o.row[c].toFixed(2), ''))
  $('chances').replaceChildren(...bars, ...numbers)
  show('calibrated', o.calibrated)
  show('uncalibrated', !o.calibrated && bars.length>0)
  $('points').replaceChildren(...o.decisions.map(d => row(d.name, d.yes ? 'yes' : 'no')))
  show('decided', o.decisions.length>0)
  $('doubt').textContent = o.doubt && `Careful: ${file.name} ${o.doubt}. The answer means nothing if it is what it looks like.`
  show('doubt', o.doubt!=='')
  $('seen').textContent = `${file.name}, ${o.size[0]} by ${o.size[1]} pixels, seen by the net as ${config.size} by ${config.size}`
  $('class').replaceChildren(...config.columns.map((c, k) => new Option(label(c), k)))
  $('class').value = config.columns.indexOf(o.foremost)
  $('when').textContent = new Date().toLocaleString()
  show('answer')
  show('why')
  show('paper')
  show('shown', false)
  idle()
  tell(`Answered in ${seconds(o.ms)}: ${$('decision').textContent}`)
}

// --- the map

function idle() {
  const held = document.activeElement===$('stop') // whoever works by keyboard goes on where they began
  $('go').disabled = false
  $('stop').disabled = true
  if (held) $('go').focus()
  show('bar', false)
}

$('go').addEventListener('click', () => {
  $('go').disabled = true
  $('stop').disabled = false
  $('stop').focus()
  $('bar').value = 0
  show('bar')
  tell('Covering one window after another')
  ask('why')
})
$('stop').addEventListener('click', () => ask('stop'))
$('class').addEventListener('change', paint)
$('strength').addEventListener('input', () => { $('overlay').style.opacity = $('strength').value/100 })

function paint() {
  if (!map) return
  const k = Number($('class').value), m = map.maps[k], s = config.size, p = new ImageData(s, s)
  const top = m.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-9)
  const [red, blue] = [[235,13,13],[13,51,242]]
  for (let i=0; i<m.length; i++) {
    p.data.set(m[i]>0 ? red : blue, i*4)
    p.data[i*4+3] = 255*Math.abs(m[i])/top
  }
  $('overlay').width = $('overlay').height = s
  $('overlay').getContext('2d').putImageData(p, 0, 0)
  $('picture').className = 'gray' // red on a retina would not be seen
  words(k, top)
}

async function words(k, top) { // what the map shows, for those who do not see it
  const {place} = await import('./answer.mjs')
  const name = label(config.columns[k]), v = map.values.map(o => o[k]), unit = config.columns[k].startsWith('p_') ? 'in log odds' : config.number.replace('answer', '')
  const best = Math.max(...v), worst = Math.min(...v), at = x => place(map.windows[v.indexOf(x)], map.window, config.size)
  const said = []
  if (best>0) said.push(`Most evidence for ${name}: ${at(best)}, ${two(best)} ${unit} are lost where it is covered.`)
  if (worst<0) said.push(`Most evidence against it: ${at(worst)}, ${two(-worst)}.`)
  if (!said.length) said.push(`No window changes what the net says of ${name}.`)
  if (config.kind==='multilabel' && answer.decision==='none' && config.columns[k]===answer.foremost) said.unshift(`${name} is the likeliest, not answered.`)
  $('words').textContent = said.join(' ')
  $('picture').setAttribute('aria-label', `The picture as the net sees it. ${$('words').textContent}`)
  $('scale').textContent = `Strongest color: ${two(top)} ${unit}. Windows of ${map.window} pixels, every ${map.stride}.`
}

// --- what the worker says

const heard = {
  here() { met = true; ask('open') },
  ready(o) {
    config = o.config
    ready = true
    for (const o of [$('file'), ...document.querySelectorAll('.try')]) o.disabled = false
    if (early) take(early)
    else tell('Ready: choose a picture, or drop one here')
  },
  answer: answered,
  progress(o) { $('bar').max = o.of; $('bar').value = o.done; $('bar').title = `${o.stage}: ${o.done} of ${o.of}` },
  map(o) {
    map = o
    show('shown')
    paint()
    if (o.stage==='coarse') tell('A coarse map is there, a finer one is being made')
  },
  whole(o) { idle(); tell(`The map is whole, in ${seconds(o.ms)}`) },
  stopped() { idle(); tell(map ? 'Stopped: the map is what was there by then' : 'Stopped') },
  refused(o) {
    idle()
    tell(o.act==='read' ? `${file.name} ${o.why}` : `This ${o.act==='open' ? 'page' : 'map'} ${o.act==='open' ? 'could not begin: ' : ''}${o.why}`, true)
  },
}
function employ(from, orElse) {
  worker = new Worker(from, {type:'module'})
  worker.onmessage = ({data}) => { if (data.n===asked) heard[data.said](data) } // what was asked before the last act is of another picture
  worker.onerror = e => !met && orElse ? orElse() : tell(`This page could not begin (${e.message || 'its program was not loaded'}): load it again.`, true)
}
// In Firefox what was kept does not reach a worker from a blob: without a network it is the kept file, to which sw.js has given the policy
employ(bound, navigator.serviceWorker?.controller && (() => employ(url)))

$('print').addEventListener('click', () => print())

function kept(at) { // when the worker has every file; `ready` alone waits for ever where it could not have them, as on a full disk
  const w = at.installing
  return at.active || !w ? navigator.serviceWorker.ready : new Promise((yes, no) => w.addEventListener('statechange', () => {
    if (w.state==='activated') yes()
    else if (w.state==='redundant') no(new Error('not every file was kept'))
  }))
}

if ('serviceWorker' in navigator) {
  if (navigator.serviceWorker.controller) navigator.serviceWorker.addEventListener('controllerchange', () => { // another page is served here now
    if (file) tell('This address gives out another page by now: load it again to see that one.', true)
    else location.reload()
  })
  navigator.serviceWorker.register('./sw.js', {scope:'./'}).then(kept)
    .then(() => { $('offline').textContent = 'This browser has kept the page: it works without a network.' })
    .catch(() => { $('offline').textContent = 'This browser does not keep the page: it needs its server the next time.' })
}
