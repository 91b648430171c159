"What reaches a terminal: names are shown, not obeyed; what goes into a file or a pipe stays as it is"
import errno, io, sys, tempfile
import pytest
from fundus_fastai import cli, commands
from fundus_fastai.core import DataError, printable, say

NAME = 'eye\x1b]0;you\x07\x1b[2J\u202egpj.exe\x9b1m\r'
SHOWN = r'eye\x1b]0;you\x07\x1b[2J\u202egpj.exe\x9b1m\r'

@pytest.mark.parametrize('text', ['7_left.png', 'Ödem 眼底 друзы ﻋﻴﻦ 👁', 'a\tb\nc', 'C:\\\\x1b'])
def test_plain_names_stay(text): assert printable(text)==text

def test_what_a_terminal_would_obey_is_spelled_out():
    assert printable(NAME)==SHOWN
    odd = b'\xff\xfe.png'.decode(errors='surrogateescape') # a name that is no text
    assert printable(odd)==r'\udcff\udcfe.png'
    printable(''.join(map(chr, range(0x11000)))).encode() # nothing is left that cannot be written

def test_what_is_said(capsys):
    say(f'{NAME} is damaged', 3)
    assert capsys.readouterr().err==f'{SHOWN} is damaged 3\n'

@pytest.mark.parametrize('terminal', [True,False])
def test_tables_and_errors(terminal, monkeypatch, capsys):
    out = io.StringIO()
    out.isatty = lambda: terminal
    monkeypatch.setattr(sys, 'stdout', out)
    monkeypatch.setattr(commands, 'datasets', lambda: print(NAME))
    assert cli.main(['datasets'])==0 and sys.stdout is out
    assert out.getvalue()==(SHOWN if terminal else NAME)+'\n'
    def fails(): raise DataError(f'{NAME} is damaged')
    monkeypatch.setattr(commands, 'datasets', fails)
    assert cli.main(['datasets'])==1 and sys.stdout is out
    assert SHOWN in capsys.readouterr().err

@pytest.mark.parametrize('verb,argv,more', [('datasets',[],''), ('publish',['run','--to','a/b'],''), *((v, a, '; finished work is kept (--resume goes on)') for v,a in (
    ('predict',['run','x.png','--out','x.csv']), ('lesions',['x.png']), ('landmarks',['x.png','--out','x.csv']))), ('quiz-results',['x.db'],'; begin again with --force'),
    ('download',['kermany2018'],'; finished work is kept (the same command goes on)'), ('download',['kermany2018','--force'],'; begin again with --force'),
    ('biomarkers',['x'],'; finished work is kept (--force goes on)'), ('biomarkers',['x.csv','--ready'],'; begin again with --force')])
def test_what_was_stopped_names_no_flag_that_the_verb_lacks(monkeypatch, capsys, verb, argv, more):
    "Nor one that throws away what has come: a download was to be begun again with --force, which fetches all anew"
    def stopped(*_, **__): raise KeyboardInterrupt
    monkeypatch.setattr(commands, 'check_first', stopped)
    assert cli.main([verb,*argv])==130 and capsys.readouterr().err==f'fundus {verb}: stopped{more}\n'

@pytest.mark.parametrize('argv', [[], ['--pool','eye','--out','x.csv']])
def test_what_was_stopped_and_stands_in_no_file_is_not_resumed(monkeypatch, capsys, argv):
    def stopped(*_, **__): raise KeyboardInterrupt
    monkeypatch.setattr(commands, 'check_first', stopped)
    assert cli.main(['predict','run','x.png',*argv])==130 and capsys.readouterr().err=='fundus predict: stopped\n'

@pytest.mark.parametrize('argv,kept', [(['--out','x.csv'],'finished work is kept (--resume goes on)'), ([],'no half file was kept')])
def test_a_full_disk_tells_what_is_kept(monkeypatch, capsys, argv, kept):
    def full(*_, **__): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(commands, 'check_first', full)
    assert cli.main(['predict','run','x.png',*argv])==1 and capsys.readouterr().err.endswith(f'; {kept}\n')

@pytest.mark.parametrize('verb,argv,part', [('predict',['run','x.png','--out','{}/t.csv'],'t.csv.part'), ('landmarks',['x.png','--out','{}/t.csv'],'t.csv.part'),
    ('vessels',['x.png','--out','{}'],'features.csv.part'), ('lesions',['x.png','--out','{}'],'counts.csv.part')])
def test_what_force_has_not_begun_is_not_gone_on_with(monkeypatch, capsys, tmp_path, verb, argv, part):
    "Without room for its first row `--force` promised that --resume goes on, which found the old table finished"
    def full(*_, **__): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(commands, 'check_first', full)
    for row,kept in ((None,'no half file was kept'), ('','no half file was kept'), ('path\n','finished work is kept (--resume goes on)')):
        if row is not None: (tmp_path/part).write_text(row)
        assert cli.main([verb,*(o.format(tmp_path) for o in argv),'--force'])==1 and capsys.readouterr().err.endswith(f'; {kept}\n')

def test_a_disk_without_room_for_temporary_files(monkeypatch, capsys):
    "`fundus audit` told of an error that we did not foresee"
    monkeypatch.setattr(tempfile, 'tempdir', None)
    monkeypatch.setattr(tempfile, '_candidate_tempdir_list', lambda: ['/nowhere'])
    monkeypatch.setattr(commands, 'check_first', lambda *_, **__: tempfile.gettempdir())
    assert cli.main(['datasets'])==1 and capsys.readouterr().err.endswith("make room on the disk, or name one in the environment's TMPDIR\n")

def test_home_is_understood_where_the_shell_passes_it_on(monkeypatch, tmp_path):
    "As `--out=~/x` in cron or YAML"
    monkeypatch.setenv('HOME', str(tmp_path))
    kw = vars(cli.make_parser('predict').parse_args(['predict','~/run','~/a.png','b~/c.png','--out=~/t.csv']))
    assert kw['run']==f'{tmp_path}/run' and kw['images']==[f'{tmp_path}/a.png','b~/c.png'] and kw['out']==f'{tmp_path}/t.csv'

def test_a_screen_without_the_letter_shows_its_number(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
    monkeypatch.setattr(sys, 'stdout', out)
    monkeypatch.setattr(commands, 'datasets', lambda: print('Müller'))
    assert cli.main(['datasets'])==0 and out.buffer.getvalue()==b'M\\xfcller\n'

@pytest.mark.parametrize('verb,argv,more', [('predict',['run','x.png'],': pass a smaller --bs'), ('train',['oct','--data','x'],': pass a smaller --bs or --size'), ('lesions',['x.png'],'')])
def test_a_full_device_names_no_flag_that_the_verb_lacks(monkeypatch, capsys, verb, argv, more):
    def full(*_, **__): raise RuntimeError('CUDA out of memory')
    monkeypatch.setattr(commands, 'check_first', full)
    assert cli.main([verb,*argv])==1 and capsys.readouterr().err==f'fundus {verb}: the device is out of memory{more}\n'

@pytest.mark.parametrize('where', [(),('out/t.csv',)])
def test_a_disk_that_fails_is_a_sentence_with_its_remedy(where):
    "A write that failed is told without a name: it was an error that nobody foresaw"
    told,status = cli._sentence(OSError(errno.EIO, 'Input/output error', *where))
    assert told.startswith(': '.join(['Input/output error', *where])+' (the disk fails') and 'try again' in told and status==1
