"Hand settings.ini to setuptools; what never changes is in pyproject.toml"
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup

ini = ConfigParser()
ini.read(Path(__file__).parent/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
status = {'2':'2 - Pre-Alpha', '3':'3 - Alpha', '4':'4 - Beta', '5':'5 - Production/Stable'}[cfg['status']]
docs = cfg['doc_host'] + cfg['doc_baseurl']

setup(
    version = cfg['version'],
    description = cfg['description'],
    keywords = cfg['keywords'].split(),
    author = cfg['author'],
    author_email = cfg['author_email'],
    classifiers = [f'Development Status :: {status}', f'Intended Audience :: {cfg["audience"]}',
                   f'Natural Language :: {cfg["language"]}', 'Programming Language :: Python :: 3 :: Only',
                   'Topic :: Scientific/Engineering :: Medical Science Apps.'],
    project_urls = {'Repository': cfg['git_url'], 'Documentation': f'{docs}/', 'Issues': f'{cfg["git_url"]}/issues',
                    'Changelog': f'{cfg["git_url"]}/blob/{cfg["branch"]}/CHANGELOG.md'},
    install_requires = cfg['requirements'].split(),
    extras_require = {k.removesuffix('_requirements'):v.split() for k,v in cfg.items() if k.endswith('_requirements')},
    entry_points = {'console_scripts': cfg['console_scripts'].split('\n'),
                    'nbdev': [f'{cfg["lib_path"]} = {cfg["lib_path"]}._modidx:d']},
)
