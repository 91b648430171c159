// What a net's numbers say, as pages 23 and 49 have it, and what a covered window was worth, as pages 50 and 53.

const chances = config => config.columns.filter(o => o.startsWith('p_'))

function over(config, row) { // of several labels, those above their thresholds
  const at = (config.operating || {}).thresholds || {}
  return chances(config).filter(c => row[c]>(at[c.slice(2)] ?? .5))
}

const highest = (row, names) => names.reduce((a, b) => row[b]>row[a] ? b : a)

export function decide(config, row) { // the answer in a word, from a row of numbers by column
  const op = config.operating || {}, ps = chances(config)
  if (config.kind==='multilabel') return over(config, row).map(c => c.slice(2)).join(' + ') || 'none'
  if (ps.length) return highest(row, ps).slice(2)
  if (config.kind==='ordered') {
    const cuts = op.cuts && op.cuts.length ? op.cuts : [.5,1.5,2.5,3.5]
    return String(cuts.filter(o => o<row.pred).length)
  }
  return row.pred.toFixed(op.digits ?? 1)
}

export function foremost(config, row) { // the column that a map is of, unless another is chosen: the likeliest of those answered
  const ps = chances(config), hit = config.kind==='multilabel' ? over(config, row) : []
  return ps.length ? highest(row, hit.length ? hit : ps) : config.columns[0]
}

export function decisions(config, row) { // yes or no at each operating point, where one class answers the question
  const points = config.points || [], asked = [...new Set(points.map(o => o.question))]
  if (asked.length!==1 || row[`p_${asked[0]}`]===undefined) return []
  return points.map(o => ({name:`${o.question} at ${o.goal} ${Math.round(100*o.at_least)} %`,
                           yes:row[`p_${asked[0]}`]>o.threshold}))
}

const log = p => Math.log(Math.max(p, 1e-30))

export function scores(config, row) { // log odds of each class; a number as it is
  const ps = chances(config), all = ps.reduce((s, c) => s+row[c], 0)
  return config.columns.map(c => {
    if (!c.startsWith('p_')) return row[c]
    if (config.kind==='multilabel') return log(row[c])-log(1-row[c])
    return log(row[c])-log(ps.reduce((s, o) => o===c ? s : s+row[o], 0) || all-row[c])
  })
}

// --- windows

export function starts(size, window, stride) { // first pixels along one axis, the last window ending at the border
  const res = []
  for (let o=0; o<size-window+stride; o+=stride) res.push(Math.min(o, size-window))
  return res
}

export function covering({w, h, d}, inside) { // the mean color of the field, or of the picture
  const sum = [0, 0, 0]
  let n = 0
  for (let i=0; i<w*h; i++) if (!inside || inside[i]) {
    n++
    for (let c=0; c<3; c++) sum[c] += d[i*3+c]
  }
  return sum.map(o => Math.round(o/Math.max(n, 1)))
}

export function windowList(im, inside, window, stride) { // [row, column] of those that change the picture
  const fill = covering(im, inside), res = []
  for (const y of starts(im.h, window, stride)) for (const x of starts(im.w, window, stride))
    if (differs(im, inside, fill, y, x, window)) res.push([y, x])
  return [res, fill]
}

function differs({w, d}, inside, fill, y, x, window) {
  for (let j=y; j<y+window; j++) for (let i=x; i<x+window; i++) {
    const p = j*w+i
    if ((!inside || inside[p]) && fill.some((v, c) => d[p*3+c]!==v)) return true
  }
  return false
}

export function copy(im, inside, fill, [y, x], window) { // the picture with one window covered, if only inside
  const d = im.d.slice()
  for (let j=y; j<y+window; j++) for (let i=x; i<x+window; i++) {
    const p = j*im.w+i
    if (!inside || inside[p]) d.set(fill, p*3)
  }
  return d
}

export function spread(windows, values, size, window, stride, inside) { // from windows to pixels of the field: the mean of those that cover one
  const a = starts(size, window, stride), n = new Uint16Array(size), map = new Float32Array(size*size)
  for (const o of a) for (let i=o; i<o+window; i++) n[i]++
  windows.forEach(([y, x], k) => {
    for (let j=y; j<y+window; j++) for (let i=x; i<x+window; i++) map[j*size+i] += values[k]
  })
  for (let i=0; i<map.length; i++) map[i] = inside && !inside[i] ? 0 : map[i]/Math.max(1, n[i%size]*n[(i/size)|0])
  return map
}

export function place([y, x], window, size) { // where a window lies, in words
  const part = o => { const p = (o+window/2)/size; return p<.4 ? 0 : p>.6 ? 2 : 1 }
  const v = ['upper','','lower'][part(y)], h = ['left','','right'][part(x)]
  return [v, h].filter(Boolean).join(' ') || 'middle'
}
