"A local stub of the Hugging Face hub and of a plain file server: serves weights, refuses, drops, lies, keeps silent"
import hashlib, re, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

commit = 'c0ffee'+'0'*34
refusals = dict(missing=(404,'EntryNotFound'), nowhere=(401,'RepoNotFound'), gated=(401,'GatedRepo'), forbidden=(403,''), broken=(500,''))


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass

    def _head(self, status, length=0, **headers):
        self.send_response(status)
        for k,v in {'X-Repo-Commit':commit, 'Content-Length':length, 'Connection':'close', **headers}.items():
            self.send_header(k.replace('_','-'), str(v))
        self.end_headers()
        self.close_connection = True

    def _name(self):
        "'timm/resnet10t.c3_in1k/model.safetensors' of the hub's and of the store's addresses"
        self.server.hub.log.append((self.command, self.path))
        path = re.sub('^https?://[^/]+', '', self.path) # asked as a proxy
        return path.strip('/').replace('/resolve/main', '').removeprefix('store/')

    def do_HEAD(self):
        "The hub: where the file lies, as it says for large files; the store: how large it is"
        hub,name = self.server.hub,self._name()
        deed = hub.deeds.get(name, 'serve')
        if deed=='silent': return time.sleep(60)
        if name not in hub.files: deed = 'missing'
        if deed in refusals: return self._head(refusals[deed][0], X_Error_Code=refusals[deed][1], X_Error_Message=deed)
        b = hub.files[name]
        tag = f'"{hashlib.sha256(b).hexdigest()}"'
        if '/store/' in self.path or not name.startswith('timm/'): return self._head(200, len(b), ETag=tag)
        self._head(302, Location=f'{hub.url}/store/{name}', X_Linked_Etag=tag, X_Linked_Size=len(b))

    def do_GET(self):
        "The store"
        hub,name = self.server.hub,self._name()
        deed = hub.deeds.get(name, 'serve')
        if deed in refusals or name not in hub.files: return self._head(refusals.get(deed, (404,))[0])
        b = hub.files[name]
        start = int(self.headers.get('Range', 'bytes=0-')[6:].split('-')[0])
        self._head(206 if start else 200, len(b)-start, **({'Content_Range': f'bytes {start}-{len(b)-1}/{len(b)}'} if start else {}))
        if deed=='drop': return
        if deed=='drop once': hub.deeds[name],b = 'serve',b[:len(b)//2]
        self.wfile.write(b[start:])


class HubStub:
    "`files` by name, and what to do instead of serving them in `deeds`"
    def __init__(self): self.files,self.deeds,self.log,self.port = {},{},[],0

    def start(self):
        self.server = ThreadingHTTPServer(('127.0.0.1',self.port), Handler)
        self.server.daemon_threads,self.server.block_on_close,self.server.hub = True,False,self
        self.port = self.server.server_port
        self.url = f'http://127.0.0.1:{self.port}'
        threading.Thread(target=self.server.serve_forever, kwargs={'poll_interval':.02}, daemon=True).start()
        return self

    def stop(self):
        self.server.shutdown(); self.server.server_close()
