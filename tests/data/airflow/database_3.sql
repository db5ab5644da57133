BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('d2f4e1b3c5a7');
CREATE TABLE connection (
	id INTEGER NOT NULL, 
	conn_id VARCHAR(250) NOT NULL, 
	conn_type VARCHAR(500) NOT NULL, 
	description VARCHAR(5000), 
	host VARCHAR(500), 
	schema VARCHAR(500), 
	login TEXT, 
	port INTEGER, 
	team_name VARCHAR(50), 
	password TEXT, 
	extra TEXT, 
	is_encrypted BOOLEAN NOT NULL, 
	is_extra_encrypted BOOLEAN NOT NULL, 
	CONSTRAINT connection_pkey PRIMARY KEY (id), 
	CONSTRAINT connection_conn_id_uq UNIQUE (conn_id), 
	CONSTRAINT connection_team_name_fkey FOREIGN KEY(team_name) REFERENCES team (name) ON DELETE SET NULL
);
INSERT INTO "connection" VALUES(1,'shop','postgres',NULL,'db.example','shop','me',5432,NULL,'gAAAAABrAujIyNED_-IMa2faJDY0UbQB0EbxVKKiXEr_eirA-v7BZ2pQBe7OpJ5q2vH9N27sax0EA4yc-ekWEHQL61QdYa4YJg==','gAAAAABrAujI3TZJfxBM7vNmA_9wypBrfgyqlzDNVDJNKGQOVS7ZYnFL-pDEEPECGC8qph8mg5Ce-IIytMtCo4V9d4wvQ6yaCI4Lk-CIeSmPWzhDhRBWqsM=',1,1);
INSERT INTO "connection" VALUES(2,'api','http',NULL,'https://api.example','',NULL,NULL,NULL,NULL,'gAAAAABrAujIJlQctiwq_uBPlp6ztWFAvhyxKT8uPh8Am27i74q1t_A4eTY1_296YpprKqyUjp-F6dCgezHlzW9gFmeIdLx9vA==',0,1);
INSERT INTO "connection" VALUES(3,'lake','aws',NULL,NULL,NULL,'AKIA',NULL,NULL,'gAAAAABrAujIz8bgCRJP74UYciBOvOpAuTIMVawnMDllpJsqhulM5WYqEMvJH2BJ5JQiIfnAjEzAfF-8h_W-Vgid4v2UJbWuTg==','gAAAAABrAujIjdPyYRX90-rsaw0v0TEdEBcWVeQ8ertNNEncegq-mjPnF1RyKTHAM-oVYfmKcpAcNVeU__hUO-NogGZhWiffPPAaFiaxMDhYLwdSRDG7HepOTP1PGsOBjh1oA2oSBVQErQCHAlOBUbrnRjhLnj2ASw==',1,1);
INSERT INTO "connection" VALUES(4,'with.dots','ssh',NULL,'host',NULL,NULL,NULL,NULL,NULL,NULL,0,0);
CREATE TABLE dag (
	dag_id VARCHAR(250) NOT NULL, 
	is_paused BOOLEAN NOT NULL, 
	is_stale BOOLEAN NOT NULL, 
	exceeds_max_non_backfill BOOLEAN DEFAULT '0' NOT NULL, 
	last_parsed_time TIMESTAMP, 
	last_parse_duration FLOAT, 
	last_expired TIMESTAMP, 
	fileloc VARCHAR(2000), 
	relative_fileloc VARCHAR(2000), 
	bundle_name VARCHAR(250) NOT NULL, 
	bundle_version VARCHAR(200), 
	owners VARCHAR(2000), 
	dag_display_name VARCHAR(2000), 
	description TEXT, 
	timetable_type VARCHAR(255) NOT NULL, 
	timetable_summary TEXT, 
	timetable_description VARCHAR(1000), 
	timetable_partitioned BOOLEAN DEFAULT '0' NOT NULL, 
	timetable_periodic BOOLEAN DEFAULT '0' NOT NULL, 
	partition_mapper_info JSON NOT NULL, 
	asset_expression JSON, 
	deadline JSON, 
	max_active_tasks INTEGER NOT NULL, 
	max_active_runs INTEGER, 
	max_consecutive_failed_dag_runs INTEGER NOT NULL, 
	has_task_concurrency_limits BOOLEAN NOT NULL, 
	has_import_errors BOOLEAN DEFAULT '0', 
	fail_fast BOOLEAN DEFAULT '0' NOT NULL, 
	allowed_run_types JSON, 
	next_dagrun TIMESTAMP, 
	next_dagrun_data_interval_start TIMESTAMP, 
	next_dagrun_data_interval_end TIMESTAMP, 
	next_dagrun_partition_key VARCHAR(255), 
	next_dagrun_partition_date TIMESTAMP, 
	next_dagrun_create_after TIMESTAMP, 
	CONSTRAINT dag_pkey PRIMARY KEY (dag_id), 
	CONSTRAINT dag_bundle_name_fkey FOREIGN KEY(bundle_name) REFERENCES dag_bundle (name)
);
INSERT INTO "dag" VALUES('by_hand',0,0,0,'2026-11-22 13:06:16.843688',NULL,NULL,'/srv/airflow/dags/nightly.py','nightly.py','dags-folder',NULL,'airflow',NULL,NULL,'NullTimetable','None','Never, external triggers only',0,0,'[]',NULL,NULL,16,16,0,0,0,0,'null',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "dag" VALUES('resting',1,0,0,'2026-11-22 13:06:21.218623',NULL,NULL,'/srv/airflow/dags/nightly.py','nightly.py','dags-folder',NULL,'airflow',NULL,NULL,'DeltaTriggerTimetable','1 day, 0:00:00','',0,1,'[]',NULL,NULL,16,16,0,0,0,0,'null','2026-11-22 13:06:21.219503','2026-11-22 13:06:21.219503','2026-11-22 13:06:21.219503',NULL,NULL,'2026-11-22 13:06:21.219503');
INSERT INTO "dag" VALUES('nightly',0,0,0,'2026-11-22 13:06:21.139112',NULL,NULL,'/srv/airflow/dags/nightly.py','nightly.py','dags-folder',NULL,'airflow',NULL,NULL,'CronTriggerTimetable','30 1 * * *','At 01:30',0,1,'[]',NULL,NULL,16,1,0,0,0,0,'null','2026-01-01 01:30:00.000000','2026-01-01 01:30:00.000000','2026-01-01 01:30:00.000000',NULL,NULL,'2026-01-01 01:30:00.000000');
INSERT INTO "dag" VALUES('ticking',0,0,0,'2026-11-22 13:06:21.242475',NULL,NULL,'/srv/airflow/dags/nightly.py','nightly.py','dags-folder',NULL,'airflow',NULL,NULL,'CronTriggerTimetable','0 * * * *','Every hour',0,1,'[]',NULL,NULL,16,16,0,0,0,0,'null','2026-11-22 13:00:00.000000','2026-11-22 13:00:00.000000','2026-11-22 13:00:00.000000',NULL,NULL,'2026-11-22 13:00:00.000000');
CREATE TABLE dag_run (
	id INTEGER NOT NULL, 
	dag_id VARCHAR(250) NOT NULL, 
	queued_at TIMESTAMP, 
	logical_date TIMESTAMP, 
	start_date TIMESTAMP, 
	end_date TIMESTAMP, 
	state VARCHAR(50), 
	run_id VARCHAR(250) NOT NULL, 
	creating_job_id INTEGER, 
	run_type VARCHAR(50) NOT NULL, 
	triggered_by VARCHAR(50), 
	triggering_user_name VARCHAR(512), 
	conf JSON, 
	data_interval_start TIMESTAMP, 
	data_interval_end TIMESTAMP, 
	run_after TIMESTAMP NOT NULL, 
	last_scheduling_decision TIMESTAMP, 
	log_template_id INTEGER, 
	created_at TIMESTAMP, 
	updated_at TIMESTAMP, 
	clear_number INTEGER DEFAULT '0' NOT NULL, 
	backfill_id INTEGER, 
	bundle_version VARCHAR(250), 
	scheduled_by_job_id INTEGER, 
	context_carrier JSON, 
	span_status VARCHAR(250) DEFAULT 'not_started' NOT NULL, 
	created_dag_version_id CHAR(32), 
	partition_key VARCHAR(250), 
	partition_date TIMESTAMP, 
	CONSTRAINT dag_run_pkey PRIMARY KEY (id), 
	CONSTRAINT dag_run_dag_id_run_id_key UNIQUE (dag_id, run_id), 
	CONSTRAINT dag_run_dag_id_logical_date_key UNIQUE (dag_id, logical_date), 
	CONSTRAINT task_instance_log_template_id_fkey FOREIGN KEY(log_template_id) REFERENCES log_template (id) ON DELETE NO ACTION, 
	CONSTRAINT dag_run_backfill_id_fkey FOREIGN KEY(backfill_id) REFERENCES backfill (id), 
	CONSTRAINT created_dag_version_id_fkey FOREIGN KEY(created_dag_version_id) REFERENCES dag_version (id) ON DELETE set null
);
INSERT INTO "dag_run" VALUES(1,'nightly',NULL,'2026-01-10 01:30:00.000000','2026-01-11 01:31:00.000000','2026-01-11 01:33:00.000000','success','scheduled__2026-01-10T01:30:00+00:00',NULL,'scheduled','TEST',NULL,'{}','2026-01-10 01:30:00.000000','2026-01-11 01:30:00.000000','2026-01-11 01:30:00.000000',NULL,2,'2026-11-22 13:06:22.533389','2026-11-22 13:06:25.824141',0,NULL,NULL,NULL,'{"__var": {"traceparent": "00-71b7a2aea261b1d00b30b67829b8d73f-cfd2abd0d4088361-00"}, "__type": "dict"}','not_started','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "dag_run" VALUES(2,'nightly',NULL,'2026-01-11 01:30:00.000000','2026-01-12 01:31:00.000000','2026-01-12 01:33:00.000000','failed','scheduled__2026-01-11T01:30:00+00:00',NULL,'scheduled','TEST',NULL,'{}','2026-01-11 01:30:00.000000','2026-01-12 01:30:00.000000','2026-01-12 01:30:00.000000',NULL,2,'2026-11-22 13:06:25.867044','2026-11-22 13:06:25.900697',0,NULL,NULL,NULL,'{"__var": {"traceparent": "00-4209a798f172bf70486685ca8d6ad59d-709d335da29d91c1-00"}, "__type": "dict"}','not_started','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "dag_run" VALUES(3,'nightly',NULL,'2026-01-12 01:30:00.000000','2026-01-13 01:31:00.000000','2026-01-13 01:33:00.000000','success','scheduled__2026-01-12T01:30:00+00:00',NULL,'scheduled','TEST',NULL,'{}','2026-01-12 01:30:00.000000','2026-01-13 01:30:00.000000','2026-01-13 01:30:00.000000',NULL,2,'2026-11-22 13:06:25.931474','2026-11-22 13:06:25.964652',0,NULL,NULL,NULL,'{"__var": {"traceparent": "00-7fd9f2117181a283f969580d95e3fd8a-3c3ddcb07de62e9c-00"}, "__type": "dict"}','not_started','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "dag_run" VALUES(4,'nightly',NULL,'2026-01-13 01:30:00.000000','2026-01-14 01:31:00.000000','2026-01-14 01:33:00.000000','success','scheduled__2026-01-13T01:30:00+00:00',NULL,'scheduled','TEST',NULL,'{}','2026-01-13 01:30:00.000000','2026-01-14 01:30:00.000000','2026-01-14 01:30:00.000000',NULL,2,'2026-11-22 13:06:25.996067','2026-11-22 13:06:26.031343',0,NULL,NULL,NULL,'{"__var": {"traceparent": "00-5f20ff2179c56539bd9203cfec37ac33-718d036ca8f0afb1-00"}, "__type": "dict"}','not_started','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "dag_run" VALUES(5,'nightly',NULL,'2026-01-14 01:30:00.000000','2026-01-15 01:31:00.000000',NULL,'running','scheduled__2026-01-14T01:30:00+00:00',NULL,'scheduled','TEST',NULL,'{}','2026-01-14 01:30:00.000000','2026-01-15 01:30:00.000000','2026-01-15 01:30:00.000000',NULL,2,'2026-11-22 13:06:26.062853','2026-11-22 13:06:26.062866',0,NULL,NULL,NULL,'{"__var": {"traceparent": "00-a8c544df4b54f770893456859ae3e049-14e4fef287102107-00"}, "__type": "dict"}','not_started','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "dag_run" VALUES(6,'nightly',NULL,'2026-01-13 06:30:00.000000','2026-01-13 06:31:00.000000','2026-01-13 06:33:00.000000','success','manual__2026-01-13T06:30:00+00:00',NULL,'manual','TEST',NULL,'{}','2026-01-13 06:30:00.000000','2026-01-13 06:30:00.000000','2026-01-13 06:30:00.000000',NULL,2,'2026-11-22 13:06:26.118290','2026-11-22 13:06:26.142264',0,NULL,NULL,NULL,'{"__var": {"traceparent": "00-b2f8546041709513d817ab74e9e932aa-a57752cb36b5b49c-00"}, "__type": "dict"}','not_started','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "dag_run" VALUES(7,'ticking',NULL,'2026-01-14 12:00:00.000000','2026-01-14 12:01:00.000000','2026-01-14 12:03:00.000000','success','scheduled__2026-01-14T12:00:00+00:00',NULL,'scheduled','TEST',NULL,'{}','2026-01-14 12:00:00.000000','2026-01-14 12:00:00.000000','2026-01-14 12:00:00.000000',NULL,2,'2026-11-22 13:06:26.194239','2026-11-22 13:06:26.244021',0,NULL,NULL,NULL,'{"__var": {"traceparent": "00-0cff0352074047332ce35150d230744e-f57e151004063ea3-00"}, "__type": "dict"}','not_started','01a2035d629a731cbaa94d3917e64257',NULL,NULL);
INSERT INTO "dag_run" VALUES(8,'ticking',NULL,'2026-01-14 13:00:00.000000','2026-01-14 13:01:00.000000','2026-01-14 13:03:00.000000','success','scheduled__2026-01-14T13:00:00+00:00',NULL,'scheduled','TEST',NULL,'{}','2026-01-14 13:00:00.000000','2026-01-14 13:00:00.000000','2026-01-14 13:00:00.000000',NULL,2,'2026-11-22 13:06:26.276088','2026-11-22 13:06:26.304822',0,NULL,NULL,NULL,'{"__var": {"traceparent": "00-d0afbf84c8dac0e6c306feeabc015ac0-1a4abed3a0178344-00"}, "__type": "dict"}','not_started','01a2035d629a731cbaa94d3917e64257',NULL,NULL);
CREATE TABLE slot_pool (
	id INTEGER NOT NULL, 
	pool VARCHAR(256), 
	slots INTEGER NOT NULL, 
	description TEXT, 
	include_deferred BOOLEAN NOT NULL, 
	team_name VARCHAR(50), 
	CONSTRAINT slot_pool_pkey PRIMARY KEY (id), 
	CONSTRAINT slot_pool_pool_uq UNIQUE (pool), 
	CONSTRAINT slot_pool_team_name_fkey FOREIGN KEY(team_name) REFERENCES team (name) ON DELETE SET NULL
);
INSERT INTO "slot_pool" VALUES(1,'default_pool',128,'Default pool',0,NULL);
INSERT INTO "slot_pool" VALUES(2,'reports',4,'',0,NULL);
CREATE TABLE task_instance (
	id CHAR(32) NOT NULL, 
	task_id VARCHAR(250) NOT NULL, 
	dag_id VARCHAR(250) NOT NULL, 
	run_id VARCHAR(250) NOT NULL, 
	map_index INTEGER DEFAULT '-1' NOT NULL, 
	start_date TIMESTAMP, 
	end_date TIMESTAMP, 
	duration FLOAT, 
	state VARCHAR(20), 
	try_number INTEGER NOT NULL, 
	max_tries INTEGER DEFAULT '-1' NOT NULL, 
	hostname VARCHAR(1000), 
	unixname VARCHAR(1000), 
	pool VARCHAR(256) NOT NULL, 
	pool_slots INTEGER NOT NULL, 
	queue VARCHAR(256), 
	priority_weight INTEGER, 
	operator VARCHAR(1000), 
	custom_operator_name VARCHAR(1000), 
	queued_dttm TIMESTAMP, 
	scheduled_dttm TIMESTAMP, 
	queued_by_job_id INTEGER, 
	last_heartbeat_at TIMESTAMP, 
	pid INTEGER, 
	executor VARCHAR(1000), 
	executor_config BLOB, 
	updated_at TIMESTAMP, 
	rendered_map_index VARCHAR(250), 
	context_carrier JSON, 
	span_status VARCHAR(250) DEFAULT 'not_started' NOT NULL, 
	external_executor_id TEXT, 
	trigger_id INTEGER, 
	trigger_timeout TIMESTAMP, 
	next_method VARCHAR(1000), 
	next_kwargs JSON, 
	task_display_name VARCHAR(2000), 
	dag_version_id CHAR(32), 
	retry_delay_override FLOAT, 
	retry_reason VARCHAR(500), 
	CONSTRAINT task_instance_pkey PRIMARY KEY (id), 
	CONSTRAINT task_instance_composite_key UNIQUE (dag_id, task_id, run_id, map_index), 
	CONSTRAINT task_instance_trigger_id_fkey FOREIGN KEY(trigger_id) REFERENCES "trigger" (id) ON DELETE CASCADE, 
	CONSTRAINT task_instance_dag_run_fkey FOREIGN KEY(dag_id, run_id) REFERENCES dag_run (dag_id, run_id) ON DELETE CASCADE, 
	CONSTRAINT task_instance_dag_version_id_fkey FOREIGN KEY(dag_version_id) REFERENCES dag_version (id) ON DELETE RESTRICT
);
INSERT INTO "task_instance" VALUES('01a2035d6e3d7fd48478b841425da8d5','load','nightly','scheduled__2026-01-10T01:30:00+00:00',-1,'2026-01-11 01:31:30.000000','2026-01-11 01:33:00.000000',NULL,'success',1,0,'','me','reports',1,'default',2,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:25.834124',NULL,'{"__var": {"traceparent": "00-71b7a2aea261b1d00b30b67829b8d73f-cfd2abd0d4088361-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'load','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d6e3e7eafa6beddd08cf7f967','tell','nightly','scheduled__2026-01-10T01:30:00+00:00',-1,'2026-01-11 01:31:30.000000','2026-01-11 01:33:00.000000',NULL,'success',1,0,'','me','default_pool',1,'default',1,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:25.834134',NULL,'{"__var": {"traceparent": "00-71b7a2aea261b1d00b30b67829b8d73f-cfd2abd0d4088361-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'tell','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d73dc7c0fa8aa6ed2158377b4','load','nightly','scheduled__2026-01-11T01:30:00+00:00',-1,'2026-01-12 01:31:30.000000','2026-01-12 01:33:00.000000',NULL,'success',1,0,'','me','reports',1,'default',2,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:25.901154',NULL,'{"__var": {"traceparent": "00-4209a798f172bf70486685ca8d6ad59d-709d335da29d91c1-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'load','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d73dd7a71a70cf6880b24890d','tell','nightly','scheduled__2026-01-11T01:30:00+00:00',-1,'2026-01-12 01:31:30.000000','2026-01-12 01:33:00.000000',NULL,'failed',1,0,'','me','default_pool',1,'default',1,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:25.901159',NULL,'{"__var": {"traceparent": "00-4209a798f172bf70486685ca8d6ad59d-709d335da29d91c1-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'tell','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d741c7a38815dbcd40b89aa27','load','nightly','scheduled__2026-01-12T01:30:00+00:00',-1,'2026-01-13 01:31:30.000000','2026-01-13 01:33:00.000000',NULL,'success',1,0,'','me','reports',1,'default',2,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:25.965065',NULL,'{"__var": {"traceparent": "00-7fd9f2117181a283f969580d95e3fd8a-3c3ddcb07de62e9c-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'load','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d741d7a88854c8b5984f6510e','tell','nightly','scheduled__2026-01-12T01:30:00+00:00',-1,'2026-01-13 01:31:30.000000','2026-01-13 01:33:00.000000',NULL,'success',1,0,'','me','default_pool',1,'default',1,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:25.965070',NULL,'{"__var": {"traceparent": "00-7fd9f2117181a283f969580d95e3fd8a-3c3ddcb07de62e9c-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'tell','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d746273548cb3c823be358373','load','nightly','scheduled__2026-01-13T01:30:00+00:00',-1,'2026-01-14 01:31:30.000000','2026-01-14 01:33:00.000000',NULL,'success',1,0,'','me','reports',1,'default',2,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:26.039080',NULL,'{"__var": {"traceparent": "00-5f20ff2179c56539bd9203cfec37ac33-718d036ca8f0afb1-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'load','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d7463734db46358f3b42000cb','tell','nightly','scheduled__2026-01-13T01:30:00+00:00',-1,'2026-01-14 01:31:30.000000','2026-01-14 01:33:00.000000',NULL,'success',1,0,'','me','default_pool',1,'default',1,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:26.039092',NULL,'{"__var": {"traceparent": "00-5f20ff2179c56539bd9203cfec37ac33-718d036ca8f0afb1-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'tell','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d74a17a97bf13f1b30bb1f28b','load','nightly','scheduled__2026-01-14T01:30:00+00:00',-1,NULL,NULL,NULL,NULL,1,0,'','me','reports',1,'default',2,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:26.090458',NULL,'{"__var": {"traceparent": "00-a8c544df4b54f770893456859ae3e049-14e4fef287102107-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'load','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d74a270ca94a1f6735afa1632','tell','nightly','scheduled__2026-01-14T01:30:00+00:00',-1,NULL,NULL,NULL,NULL,1,0,'','me','default_pool',1,'default',1,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:26.090467',NULL,'{"__var": {"traceparent": "00-a8c544df4b54f770893456859ae3e049-14e4fef287102107-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'tell','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d74d17f468a025983aa4594e4','load','nightly','manual__2026-01-13T06:30:00+00:00',-1,'2026-01-13 06:31:30.000000','2026-01-13 06:33:00.000000',NULL,'success',1,0,'','me','reports',1,'default',2,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:26.142690',NULL,'{"__var": {"traceparent": "00-b2f8546041709513d817ab74e9e932aa-a57752cb36b5b49c-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'load','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d74d3758593a01e39c19ac0a9','tell','nightly','manual__2026-01-13T06:30:00+00:00',-1,'2026-01-13 06:31:30.000000','2026-01-13 06:33:00.000000',NULL,'success',1,0,'','me','default_pool',1,'default',1,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:26.142695',NULL,'{"__var": {"traceparent": "00-b2f8546041709513d817ab74e9e932aa-a57752cb36b5b49c-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'tell','01a2035d6299798b93bb10e9d2523700',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d75337e4f9fd338bed35ede9e','tick','ticking','scheduled__2026-01-14T12:00:00+00:00',-1,'2026-01-14 12:01:30.000000','2026-01-14 12:03:00.000000',NULL,'success',1,0,'','me','default_pool',1,'default',1,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:26.245244',NULL,'{"__var": {"traceparent": "00-0cff0352074047332ce35150d230744e-f57e151004063ea3-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'tick','01a2035d629a731cbaa94d3917e64257',NULL,NULL);
INSERT INTO "task_instance" VALUES('01a2035d757470fa8a3cd55ee78733f3','tick','ticking','scheduled__2026-01-14T13:00:00+00:00',-1,'2026-01-14 13:01:30.000000','2026-01-14 13:03:00.000000',NULL,'success',1,0,'','me','default_pool',1,'default',1,'BashOperator','BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:06:26.305207',NULL,'{"__var": {"traceparent": "00-d0afbf84c8dac0e6c306feeabc015ac0-1a4abed3a0178344-00"}, "__type": "dict"}','not_started',NULL,NULL,NULL,NULL,NULL,'tick','01a2035d629a731cbaa94d3917e64257',NULL,NULL);
CREATE TABLE variable (
	id INTEGER NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	val TEXT NOT NULL, 
	description TEXT, 
	is_encrypted BOOLEAN NOT NULL, 
	team_name VARCHAR(50), 
	CONSTRAINT variable_pkey PRIMARY KEY (id), 
	CONSTRAINT variable_key_uq UNIQUE ("key"), 
	CONSTRAINT variable_team_name_fkey FOREIGN KEY(team_name) REFERENCES team (name) ON DELETE SET NULL
);
INSERT INTO "variable" VALUES(1,'region','gAAAAABrAujIzjbCX1MbGwhRfNPJo7YOCMlNy50jo3keTQhsx1-37-qy-VIe2cWFLjxmWWWl3V2ykW6c2regCaKlPpNSjK0EpA==',NULL,1,NULL);
INSERT INTO "variable" VALUES(2,'api_token','gAAAAABrAujIoN2WlgiZr-xkujXZ3KF7NN4UUxm7ZWR9Ba8sWtIj_l-qVv6wmlE2IX_xGDTrebrvBOF0HEGq12ME5psIoNefTQ==',NULL,1,NULL);
INSERT INTO "variable" VALUES(3,'options','gAAAAABrAujIavBj2OBtSQ57JpdshNBxWVUSwARMuHWfhVIMe4CZGE3p0n2nyOumk4nzPBvisBDipdmV3PlEbPTiOxAOl6VSO13e9rBeqxlrAgdOdYAarOk=',NULL,1,NULL);
INSERT INTO "variable" VALUES(4,'nothing','gAAAAABrAujIl4Vhk7bH3IFsd9aUNWG5zVMYzvkIASKK5jwXnxs7Q_w7H1wjVY8kDkMrGv-Gkp17zyjvkVwCrYkNq5hGZK6ANg==',NULL,1,NULL);
COMMIT;
