'use strict'
// Keys, the time an answer took, and no answer twice. Without this file the page works by mouse and by Tab.
const $ = o => document.getElementById(o), form = $('form'), sure = $('sure'), keys = $('keys')
let since = performance.now(), sent = false
if ($('eye')) $('eye').addEventListener('load', () => { since = performance.now(); document.body.dataset.seen = 'yes' })
if ($('eye') && $('eye').complete) $('eye').naturalWidth ? document.body.dataset.seen = 'yes' : lost()
if ($('eye')) $('eye').addEventListener('error', lost)
function lost() { // whoever sees nothing does not guess: the answer would count
  $('eye').alt = 'This picture cannot be shown: load the page again, or tell whoever runs this quiz.'
  if (sure) sent = true
}
if (sure) sure.addEventListener('input', () => { $('said').textContent = sure.value })
if (form) form.addEventListener('submit', e => {
  if (sent || sure && !document.body.dataset.seen) return e.preventDefault() // a slow net: what is not there yet is not judged
  sent = true
  setTimeout(() => { sent = false }, 2000) // whoever stops a slow page may press again: the server counts an answer once
  if ($('ms')) $('ms').value = Math.round(performance.now()-since)
})
addEventListener('pageshow', e => { if (e.persisted) location.reload() }) // the back button shows what is open now
// Digits and letters may be switched off (WCAG 2.1.4): whoever dictates types them by the way. Each browser remembers it, if it may
function single(o) { try { if (o) localStorage.setItem('keys', o); return localStorage.getItem('keys') } catch { return '' } }
if (keys) {
  keys.checked = single() !== 'off'
  keys.closest('label').hidden = false
  keys.addEventListener('change', () => single(keys.checked ? 'on' : 'off'))
}
addEventListener('keydown', e => {
  if (!form || e.ctrlKey || e.metaKey || e.altKey) return
  if (e.key === 'Enter' && e.target.closest('a')) return // a link is followed
  if (e.key === 'Enter') { e.preventDefault(); if (!e.repeat && !sent) form.requestSubmit(); return }
  if (!sure || e.key.length === 1 && !keys.checked) return
  const pick = document.querySelector(['key','letter'].map(o => `input[data-${o}="${CSS.escape(e.key.toLowerCase())}"]`).join())
  if (pick) { pick.checked = true; e.preventDefault() }
  const way = {ArrowLeft:-1, ArrowRight:1}[e.key]
  if (way) { e.preventDefault(); way > 0 ? sure.stepUp(5) : sure.stepDown(5); $('said').textContent = sure.value }
})
