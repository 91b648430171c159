"What notebooks and tests run in"
import os, subprocess, sys
from house.shared import ROOT

def test_what_is_compiled_is_kept(tmp_path):
    (tmp_path/'asked.py').write_text('')
    subprocess.run(['bash','-euc',f'. .ci/env; cd "{tmp_path}"; "{sys.executable}" -c "import asked"'], cwd=ROOT, check=True,
                   env=os.environ|{'PYTHONDONTWRITEBYTECODE':'1','PYTHONPATH':''})
    assert list((tmp_path/'__pycache__').glob('asked.*.pyc'))
